//! Parquet: how the columns of a part are written, and which types a part has.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::buffer::TableBuffer;
use crate::builder::PartKey;
use crate::column::Column;
use crate::current::Layout;
use crate::system::{self, Run, time_type};
use crate::table::{PartInfo, RowClass};
use crate::{ColumnDecl, ColumnType, Error, limits};

/// Key of a part's metadata: the names of its JSON columns, which Parquet cannot tell from text.
const JSON_COLUMNS: &str = "muster.json";

/// The Arrow type that stores a column type.
#[must_use]
pub fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int => DataType::Int64,
        ColumnType::Float => DataType::Float64,
        ColumnType::Time => time_type(),
        ColumnType::Bytes => DataType::Binary,
        ColumnType::Json | ColumnType::Text => DataType::Utf8,
    }
}

/// The columns of a part besides the system ones, with their types, from its Parquet schema and
/// its key-value metadata.
#[must_use]
pub fn column_types(schema: &Schema, metadata: Option<&Vec<KeyValue>>) -> Vec<ColumnDecl> {
    let json: Vec<String> = metadata
        .and_then(|entries| entries.iter().find(|entry| entry.key == JSON_COLUMNS))
        .and_then(|entry| serde_json::from_str(entry.value.as_deref()?).ok())
        .unwrap_or_default();
    let own = schema.fields().iter().filter(|field| !crate::is_system(field.name()));
    own.map(|field| {
        let kind = match field.data_type() {
            DataType::Boolean => ColumnType::Bool,
            DataType::Float64 => ColumnType::Float,
            DataType::Timestamp(..) => ColumnType::Time,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnType::Bytes,
            kind if kind.is_integer() => ColumnType::Int,
            _ if json.contains(field.name()) => ColumnType::Json,
            _ => ColumnType::Text,
        };
        ColumnDecl { name: field.name().clone(), kind }
    })
    .collect()
}

/// Bytes of text of a piece of a part whose rows move; the rows of one message stay together.
const MOVED_BYTES: usize = 8 << 20;

/// How much is written besides the values: small parts are read whole, large ones in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The flush of a moment.
    Fresh,
    /// The outcome of a compaction.
    Settled,
}

/// Writes Parquet into memory.
pub(crate) struct FileWriter(ArrowWriter<Vec<u8>>);

impl FileWriter {
    /// `layout` is told of a part of the current class.
    pub(crate) fn new(
        schema: SchemaRef,
        json: &[&str],
        layout: Option<&Layout>,
        to: Purpose,
    ) -> Result<Self, Error> {
        let statistics = match to {
            Purpose::Fresh => EnabledStatistics::Chunk,
            Purpose::Settled => EnabledStatistics::Page,
        };
        let json = (!json.is_empty()).then(|| {
            let names = serde_json::Value::from(json.to_vec()).to_string();
            KeyValue::new(JSON_COLUMNS.to_owned(), names)
        });
        let metadata: Vec<KeyValue> = json.into_iter().chain(layout.map(Layout::note)).collect();
        let metadata = (!metadata.is_empty()).then_some(metadata);
        let row = || ColumnPath::from("_row");
        let properties = WriterProperties::builder()
            .set_created_by("muster".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(statistics)
            .set_statistics_truncate_length(Some(64))
            .set_column_index_truncate_length(Some(64))
            .set_offset_index_disabled(to == Purpose::Fresh)
            .set_max_row_group_row_count(Some(limits::ROW_GROUP_ROWS))
            .set_column_dictionary_enabled(row(), false)
            .set_column_encoding(row(), Encoding::DELTA_BINARY_PACKED)
            .set_key_value_metadata(metadata)
            .build();
        // Our types follow from Parquet's own; a copy of the Arrow schema would cost small parts.
        let options =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        Ok(Self(ArrowWriter::try_new_with_options(Vec::new(), schema, options)?))
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        Ok(self.0.write(batch)?)
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, Error> {
        Ok(self.0.into_inner()?)
    }
}

impl TableBuffer {
    /// Sorts and writes the rows; place and length in the container are still open.
    pub(crate) fn finish(mut self, key: PartKey) -> Result<(PartInfo, Vec<u8>), Error> {
        let rows = self.rows();
        let part = self.describe(key);
        let order = sort(&mut self.runs, part.class);
        let current = part.class == RowClass::Current;
        let (columns, hidden) = if current {
            system::current_columns(&self.runs, rows, &self.sources)
        } else {
            let mut columns = system::columns(&self.runs, rows, &self.sources);
            let hidden_from = columns.iter().position(|(field, _)| field.name() == "_org");
            let hidden = columns.split_off(hidden_from.unwrap_or(columns.len()));
            (columns, hidden)
        };
        let layout = current.then(|| Layout::fresh(&self.spec));
        let mut json = Vec::new();
        for column in &self.columns {
            if column.kind() == ColumnType::Json {
                json.push(column.name.clone());
            }
        }
        let whole = |(field, array)| (field, Source::Whole(array));
        let mut columns: Vec<_> = columns.into_iter().map(whole).collect();
        columns.extend(std::mem::take(&mut self.columns).into_iter().filter_map(own));
        columns.extend(hidden.into_iter().map(whole));
        let kept = [self.raw, self.extra].into_iter().filter(|_| !current);
        columns.extend(kept.filter_map(own));
        let (fields, sources): (Vec<Field>, Vec<Source>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new(fields));
        let json: Vec<&str> = json.iter().map(String::as_str).collect();
        let mut file =
            FileWriter::new(Arc::clone(&schema), &json, layout.as_ref(), Purpose::Fresh)?;
        let mut write = |arrays| {
            let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
                .map_err(parquet::errors::ParquetError::from)?;
            file.write(&batch)
        };
        match order {
            None => write(sources.into_iter().map(|source| source.into_array(rows)).collect())?,
            Some(order) => moved(sources, rows, &order, write)?,
        }
        Ok((part, file.finish()?))
    }

    fn describe(&self, key: PartKey) -> PartInfo {
        let metas = || self.runs.iter().map(|run| &run.meta);
        let bounds = "a part has rows";
        PartInfo {
            org: key.org,
            table: key.table,
            class: key.class,
            day: key.day,
            byte_offset: 0,
            byte_count: 0,
            row_count: self.rows() as u64,
            received_min: metas().map(|m| m.received_at).min().expect(bounds),
            received_max: metas().map(|m| m.received_at).max().expect(bounds),
            agent_min: metas().map(|m| m.agent).min().expect(bounds),
            agent_max: metas().map(|m| m.agent).max().expect(bounds),
            hunt_min: metas().map(|m| m.hunt).min().expect(bounds),
            hunt_max: metas().map(|m| m.hunt).max().expect(bounds),
            columns: self
                .columns
                .iter()
                .map(|column| ColumnDecl { name: column.shown.clone(), kind: column.kind() })
                .collect(),
        }
    }
}

/// A column on its way into a file.
enum Source {
    /// In the order of the file.
    Whole(ArrayRef),
    /// As rows came.
    Own(Column),
}

impl Source {
    fn into_array(self, rows: usize) -> ArrayRef {
        match self {
            Self::Whole(array) => array,
            Self::Own(column) => column.into_array(rows),
        }
    }
}

/// A column without any value is left out of the file.
fn own(column: Column) -> Option<(Field, Source)> {
    if column.is_null() {
        return None;
    }
    let field = Field::new(column.name.clone(), data_type(column.kind()), true);
    Some((field, Source::Own(column)))
}

/// Writes rows in another order than they came in. Piece by piece, because moved rows are a copy.
fn moved(
    mut sources: Vec<Source>,
    rows: usize,
    order: &[Range<usize>],
    mut write: impl FnMut(Vec<ArrayRef>) -> Result<(), Error>,
) -> Result<(), Error> {
    for source in &mut sources {
        if let Source::Own(column) = source {
            column.pad(rows);
        }
    }
    let length = |range: &Range<usize>| -> usize {
        let of = |source: &Source| match source {
            Source::Whole(_) => 0,
            Source::Own(column) => column.slice_bytes_of(range),
        };
        sources.iter().map(of).sum()
    };
    let (mut row, mut left) = (0, order);
    while !left.is_empty() {
        let mut bytes = 0;
        let fits = |range: &&Range<usize>| {
            bytes += length(range);
            bytes <= MOVED_BYTES
        };
        let (piece, rest) = left.split_at(left.iter().take_while(fits).count().max(1));
        let count = piece.iter().map(Range::len).sum();
        let array = |source: &Source| match source {
            Source::Whole(array) => array.slice(row, count),
            Source::Own(column) => column.gathered(piece),
        };
        write(sources.iter().map(array).collect())?;
        (row, left) = (row + count, rest);
    }
    Ok(())
}

/// Puts the runs in the order of their class; where rows must move, from where.
fn sort(runs: &mut [Run], class: RowClass) -> Option<Vec<Range<usize>>> {
    let key = |run: &Run| {
        let meta = &run.meta;
        let by_agent = matches!(class, RowClass::Scheduled | RowClass::Current);
        let hunt = if by_agent { 0 } else { meta.hunt.0 };
        (hunt, meta.agent, meta.received_at, meta.shard, meta.pos, run.first)
    };
    if runs.is_sorted_by_key(key) {
        return None;
    }
    runs.sort_by_key(key);
    Some(runs.iter().map(|run| run.start..run.start + run.len).collect())
}
