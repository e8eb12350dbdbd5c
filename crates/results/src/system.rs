//! The columns every result table has.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::table::RowMeta;

/// A column that every result table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemColumn {
    /// Its name.
    pub name: &'static str,
    /// Whether `SELECT *` leaves it out.
    pub hidden: bool,
}

const fn shown(name: &'static str) -> SystemColumn {
    SystemColumn { name, hidden: false }
}

const fn hidden(name: &'static str) -> SystemColumn {
    SystemColumn { name, hidden: true }
}

/// All of them. In a table the shown ones come first, then its own columns, then the hidden ones.
/// `endpoint_time`, `_raw` and `_extra` are left out of a part where they are NULL throughout.
pub const SYSTEM_COLUMNS: [SystemColumn; 13] = [
    shown("agent"),
    shown("agent_kind"),
    shown("hunt"),
    shown("attempt"),
    shown("late"),
    shown("received_time"),
    shown("endpoint_time"),
    hidden("_org"),
    hidden("_shard"),
    hidden("_pos"),
    hidden("_row"),
    hidden("_raw"),
    hidden("_extra"),
];

/// The Arrow type of times.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow fields of [`SYSTEM_COLUMNS`], in the same order.
#[must_use]
pub fn system_fields() -> [Field; 13] {
    let field = |name, kind, null| Field::new(name, kind, null);
    [
        field("agent", DataType::Int64, false),
        field("agent_kind", DataType::Utf8, false),
        field("hunt", DataType::Int64, true),
        field("attempt", DataType::Int32, false),
        field("late", DataType::Boolean, false),
        field("received_time", time_type(), false),
        field("endpoint_time", time_type(), true),
        field("_org", DataType::UInt32, false),
        field("_shard", DataType::UInt32, false),
        field("_pos", DataType::UInt64, false),
        field("_row", DataType::UInt32, false),
        field("_raw", DataType::Utf8, true),
        field("_extra", DataType::Utf8, true),
    ]
}

/// Rows of one append, next to each other in a table's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub meta: RowMeta,
    /// First row in the buffer.
    pub start: usize,
    pub len: usize,
    /// `_row` of the first.
    pub first: u32,
}

/// The system columns of `runs`, in their order, without `_raw` and `_extra`.
pub(crate) fn columns(runs: &[Run], rows: usize) -> Vec<(Field, ArrayRef)> {
    fn spread<T: Clone>(runs: &[Run], rows: usize, of: impl Fn(&RowMeta) -> T) -> Vec<T> {
        let mut out = Vec::with_capacity(rows);
        for run in runs {
            out.extend(repeat_n(of(&run.meta), run.len));
        }
        out
    }
    let times = |values: TimestampMicrosecondArray| Arc::new(values.with_timezone("UTC"));
    let kinds = spread(runs, rows, |m| m.agent_kind.as_str());
    let endpoint_time = spread(runs, rows, |m| m.endpoint_time.map(|at| at.0));
    let told = endpoint_time.iter().any(Option::is_some);
    let hunts = spread(runs, rows, |m| i64::try_from(m.hunt.0).ok().filter(|no| *no > 0));
    let row_numbers = runs.iter().flat_map(|run| (run.first..).take(run.len));
    let mut arrays: [Option<ArrayRef>; 13] = [
        Some(Arc::new(Int64Array::from(spread(runs, rows, |m| i64::from(m.agent.0))))),
        Some(Arc::new(StringArray::from(kinds))),
        Some(Arc::new(Int64Array::from(hunts))),
        Some(Arc::new(Int32Array::from(spread(runs, rows, |m| i32::from(m.attempt))))),
        Some(Arc::new(BooleanArray::from(spread(runs, rows, |m| m.late)))),
        Some(times(spread(runs, rows, |m| m.received_at.0).into())),
        told.then(|| times(endpoint_time.into()) as ArrayRef),
        Some(Arc::new(UInt32Array::from(spread(runs, rows, |m| u32::from(m.org.0))))),
        Some(Arc::new(UInt32Array::from(spread(runs, rows, |m| u32::from(m.shard.get()))))),
        Some(Arc::new(UInt64Array::from(spread(runs, rows, |m| m.pos.0)))),
        Some(Arc::new(UInt32Array::from_iter_values(row_numbers))),
        None,
        None,
    ];
    let named = system_fields().into_iter().zip(&mut arrays);
    named.filter_map(|(field, array)| Some((field, array.take()?))).collect()
}
