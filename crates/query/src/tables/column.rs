//! Columns from iterators.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use muster_types::Timestamp;

pub(super) fn text<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(super) fn number(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

pub(super) fn time(values: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    let values = values.map(|at| at.map(|at| at.0));
    Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
