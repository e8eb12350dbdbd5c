//! From the child's Arrow stream to what the asker wants to read.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::csv::WriterBuilder as Csv;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::json::WriterBuilder as JsonBuilder;
use arrow::json::writer::LineDelimited;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One document: `columns`, `rows`, `row_count`, `truncated`.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// What `Accept` asks for; NDJSON when it does not say.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let known = [
            ("application/vnd.apache.arrow.stream", Self::Arrow),
            ("text/csv", Self::Csv),
            ("application/x-ndjson", Self::Ndjson),
            ("application/json", Self::Json),
        ];
        let asked = |(kind, _): &&(&str, Self)| accept.contains(kind);
        known.iter().find(asked).map_or(Self::Ndjson, |(_, format)| *format)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Turns the child's stream into the asked form, a piece at a time.
pub(super) struct Encoder {
    format: Format,
    decoder: StreamDecoder,
    begun: bool,
    /// The child is asked for one row more than this, which tells whether the answer is cut.
    rows_max: u64,
    pub(super) row_count: u64,
    pub(super) truncated: bool,
}

impl Encoder {
    pub(super) fn new(format: Format, rows_max: u64) -> Self {
        let decoder = StreamDecoder::new();
        Self { format, decoder, begun: false, rows_max, row_count: 0, truncated: false }
    }

    /// Takes a piece of the stream in and gives what can be written of it.
    pub(super) fn push(&mut self, piece: &Bytes) -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::new();
        let mut buffer = Buffer::from(piece.clone());
        while !buffer.is_empty() {
            let batch = self.decoder.decode(&mut buffer)?;
            self.begin(&mut out);
            if let Some(batch) = batch {
                self.write(&batch, &mut out)?;
            }
        }
        if self.format == Format::Arrow {
            return Ok(piece.to_vec());
        }
        Ok(out)
    }

    /// The end of a stream that ended well.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, ArrowError> {
        self.decoder.finish()?;
        let mut out = Vec::new();
        self.begin(&mut out);
        if self.format == Format::Json {
            let tail =
                format!("],\"row_count\":{},\"truncated\":{}}}", self.row_count, self.truncated);
            out.extend_from_slice(tail.as_bytes());
        }
        Ok(out)
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(schema) = self.decoder.schema().filter(|_| !self.begun) else { return };
        self.begun = true;
        match self.format {
            Format::Json => {
                let head = format!("{{\"columns\":{},\"rows\":[", columns(&schema));
                out.extend_from_slice(head.as_bytes());
            }
            Format::Csv => {
                // The header stands even when no row follows.
                let empty = RecordBatch::new_empty(SchemaRef::clone(&schema));
                let mut writer = Csv::new().with_header(true).build(&mut *out);
                let _ = writer.write(&empty);
            }
            Format::Ndjson | Format::Arrow => {}
        }
    }

    fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let room = usize::try_from(self.rows_max - self.row_count).unwrap_or(usize::MAX);
        let batch = match batch.num_rows() > room {
            true => {
                self.truncated = true;
                batch.slice(0, room)
            }
            false => batch.clone(),
        };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let first = self.row_count == 0;
        self.row_count += batch.num_rows() as u64;
        match self.format {
            Format::Arrow => Ok(()),
            Format::Csv => Csv::new().with_header(false).build(&mut *out).write(&batch),
            Format::Ndjson => lines(&batch, out),
            Format::Json => {
                let mut rows = Vec::new();
                lines(&batch, &mut rows)?;
                if !first {
                    out.push(b',');
                }
                // Newlines inside values are escaped, so each one ends a row.
                let body = rows.strip_suffix(b"\n").unwrap_or(&rows);
                out.extend(body.iter().map(|byte| if *byte == b'\n' { b',' } else { *byte }));
                Ok(())
            }
        }
    }
}

fn lines(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let builder = JsonBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(out);
    writer.write(batch)?;
    writer.finish()
}

fn columns(schema: &Schema) -> serde_json::Value {
    let column = |field: &std::sync::Arc<arrow::datatypes::Field>| json!({"name": field.name(), "type": type_word(field.data_type())});
    schema.fields().iter().map(column).collect()
}

/// The column types of artifacts, for what Arrow has.
fn type_word(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "bool",
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => "time",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes",
        DataType::Dictionary(_, value) => type_word(value),
        kind if kind.is_integer() => "int",
        kind if kind.is_floating() => "float",
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => "json",
        _ => "text",
    }
}
