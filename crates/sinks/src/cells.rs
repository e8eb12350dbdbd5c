//! The columns of a batch as JSON members, a row at a time.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_results::{ColumnDecl, ColumnType, is_system};
use serde_json::value::RawValue;

use crate::read::Piece;

/// Values of one column.
enum Values {
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    Time(TimestampMicrosecondArray),
    Bytes(BinaryArray),
    Json(StringArray),
    Text(StringArray),
}

/// The own columns of a batch, ready to be written.
pub(crate) struct Cells {
    /// `"name":` and the values.
    columns: Vec<(String, Values)>,
    pub system: System,
}

/// The system columns that an event tells of.
pub(crate) struct System {
    pub agent: Option<Int64Array>,
    pub hunt: Option<Int64Array>,
    pub attempt: Option<Int64Array>,
    pub late: Option<BooleanArray>,
    pub received: Option<TimestampMicrosecondArray>,
    pub endpoint_time: Option<TimestampMicrosecondArray>,
    pub kind: Option<StringArray>,
    /// Columns of scheduled tables: the schedule's name, and what the row says of its state.
    pub source: Option<StringArray>,
    pub action: Option<StringArray>,
    pub raw: Option<StringArray>,
    pub extra: Option<StringArray>,
}

impl Cells {
    pub(crate) fn of(piece: &Piece) -> Self {
        let column = |name: &str| piece.batch.column_by_name(name);
        let int = |name: &str| primitive::<Int64Type>(column(name), &DataType::Int64);
        let time = |name: &str| {
            let kind = column(name)?.data_type().clone();
            primitive::<TimestampMicrosecondType>(column(name), &kind)
        };
        let text = |name: &str| text(column(name));
        let system = System {
            agent: int("agent"),
            hunt: int("hunt"),
            attempt: int("attempt"),
            late: column("late").and_then(|c| c.as_boolean_opt()).cloned(),
            received: time("received_time"),
            endpoint_time: time("endpoint_time"),
            kind: text("agent_kind"),
            source: text("_source"),
            action: text("_action"),
            raw: text("_raw"),
            extra: text("_extra"),
        };
        let own = piece.columns.iter().filter(|c| !is_system(&c.name) && !is_ours(&c.name));
        let columns = own.filter_map(|decl| {
            let key = serde_json::to_string(&decl.name).ok()?;
            Some((format!("{key}:"), values(decl, column(&decl.name)?)?))
        });
        Self { columns: columns.collect(), system }
    }

    /// Writes the members of a row, without braces. NULLs are left out.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        let mut first = true;
        for (key, values) in &self.columns {
            if values.is_null(row) {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(key.as_bytes());
            values.write(row, out);
        }
    }
}

/// System columns that scheduled tables have besides those of all tables.
fn is_ours(name: &str) -> bool {
    matches!(name, "_source" | "_action")
}

fn primitive<T: arrow::datatypes::ArrowPrimitiveType>(
    column: Option<&ArrayRef>,
    kind: &DataType,
) -> Option<arrow::array::PrimitiveArray<T>> {
    cast(column?, kind).ok()?.as_primitive_opt::<T>().cloned()
}

fn text(column: Option<&ArrayRef>) -> Option<StringArray> {
    cast(column?, &DataType::Utf8).ok()?.as_string_opt::<i32>().cloned()
}

fn values(decl: &ColumnDecl, column: &ArrayRef) -> Option<Values> {
    Some(match decl.kind {
        ColumnType::Bool => Values::Bool(column.as_boolean_opt()?.clone()),
        ColumnType::Int => Values::Int(primitive::<Int64Type>(Some(column), &DataType::Int64)?),
        ColumnType::Float => {
            Values::Float(primitive::<Float64Type>(Some(column), &DataType::Float64)?)
        }
        ColumnType::Time => {
            let kind = column.data_type().clone();
            Values::Time(primitive::<TimestampMicrosecondType>(Some(column), &kind)?)
        }
        ColumnType::Bytes => {
            Values::Bytes(cast(column, &DataType::Binary).ok()?.as_binary_opt()?.clone())
        }
        ColumnType::Json => Values::Json(text(Some(column))?),
        ColumnType::Text => Values::Text(text(Some(column))?),
    })
}

impl Values {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(a) => a.is_null(row),
            Self::Int(a) => a.is_null(row),
            // JSON has no word for these.
            Self::Float(a) => a.is_null(row) || !a.value(row).is_finite(),
            Self::Time(a) => a.is_null(row),
            Self::Bytes(a) => a.is_null(row),
            Self::Json(a) | Self::Text(a) => a.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bool(a) => put(out, &a.value(row)),
            Self::Int(a) => put(out, &a.value(row)),
            Self::Float(a) => put(out, &a.value(row)),
            Self::Time(a) => put(out, &time(a.value(row))),
            Self::Bytes(a) => put(out, &BASE64_STANDARD.encode(a.value(row))),
            Self::Json(a) => json(out, a.value(row)),
            Self::Text(a) => put(out, a.value(row)),
        }
    }
}

/// Writes a value as JSON.
pub(crate) fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("plain values are written into memory");
}

/// Writes text that holds JSON as it is, on one line; text that holds none as text.
pub(crate) fn json(out: &mut Vec<u8>, text: &str) {
    match serde_json::from_str::<&RawValue>(text) {
        // Line breaks stand only between the parts of valid JSON.
        Ok(raw) => out.extend(raw.get().bytes().map(|b| match b {
            b'\n' | b'\r' => b' ',
            other => other,
        })),
        Err(_) => put(out, text),
    }
}

/// A time as RFC 3339 text in UTC; beyond the calendar its microseconds.
pub(crate) fn time(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{micros}us"),
    }
}
