//! A growable column that can be cut back.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use muster_types::ColumnType;

/// Values one behind the other; `offsets[i]..offsets[i + 1]` is the i-th.
#[derive(Debug)]
pub(crate) struct Slices {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Slices {
    fn new() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }

    pub(crate) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.close();
    }

    /// Pushes a value as it is displayed; true.
    pub(crate) fn display(&mut self, value: impl std::fmt::Display) -> bool {
        use std::io::Write;
        write!(self.bytes, "{value}").expect("writing to a vector does not fail");
        self.close();
        true
    }

    fn close(&mut self) {
        let end = i32::try_from(self.bytes.len()).expect("the builder keeps buffers below 2 GiB");
        self.offsets.push(end);
    }

    fn gather(&self, ranges: &[Range<usize>]) -> Self {
        let part = |range: &Range<usize>| {
            self.offsets[range.start] as usize..self.offsets[range.end] as usize
        };
        let rows: usize = ranges.iter().map(Range::len).sum();
        let mut out = Self {
            offsets: Vec::with_capacity(rows + 1),
            bytes: Vec::with_capacity(ranges.iter().map(|range| part(range).len()).sum()),
        };
        out.offsets.push(0);
        for range in ranges {
            let shift = out.offsets[out.offsets.len() - 1] - self.offsets[range.start];
            let ends = &self.offsets[range.start + 1..=range.end];
            out.offsets.extend(ends.iter().map(|end| end + shift));
            out.bytes.extend_from_slice(&self.bytes[part(range)]);
        }
        out
    }

    fn offsets(self) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        (offsets, Buffer::from_vec(self.bytes))
    }
}

#[derive(Debug)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Time(Vec<i64>),
    Bytes(Slices),
    Json(Slices),
    Text(Slices),
}

impl Values {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool(Vec::new()),
            ColumnType::Int => Self::Int(Vec::new()),
            ColumnType::Float => Self::Float(Vec::new()),
            ColumnType::Time => Self::Time(Vec::new()),
            ColumnType::Bytes => Self::Bytes(Slices::new()),
            ColumnType::Json => Self::Json(Slices::new()),
            ColumnType::Text => Self::Text(Slices::new()),
        }
    }
}

/// One column of one table. Rows that have no value are filled in when the next one comes, so an
/// absent column costs nothing.
#[derive(Debug)]
pub(crate) struct Column {
    /// Name as first spelled.
    pub shown: String,
    /// Name in SQL.
    pub name: String,
    /// Whether its values are read as raw JSON, because they need their text.
    pub raw: bool,
    pub values: Values,
    valid: Vec<bool>,
}

impl Column {
    pub(crate) fn new(name: String, shown: String, kind: ColumnType) -> Self {
        let raw = kind == ColumnType::Json;
        Self { shown, name, raw, values: Values::new(kind), valid: Vec::new() }
    }

    pub(crate) fn kind(&self) -> ColumnType {
        match self.values {
            Values::Bool(_) => ColumnType::Bool,
            Values::Int(_) => ColumnType::Int,
            Values::Float(_) => ColumnType::Float,
            Values::Time(_) => ColumnType::Time,
            Values::Bytes(_) => ColumnType::Bytes,
            Values::Json(_) => ColumnType::Json,
            Values::Text(_) => ColumnType::Text,
        }
    }

    /// Whether no row has a value.
    pub(crate) fn is_null(&self) -> bool {
        !self.valid.contains(&true)
    }

    /// Makes `row` the next one: fills what is missing, forgets what is there (the last wins).
    #[inline]
    pub(crate) fn start(&mut self, row: usize) {
        if self.valid.len() != row {
            self.seek(row);
        }
    }

    #[cold]
    fn seek(&mut self, row: usize) {
        if self.valid.len() > row { self.truncate(row) } else { self.pad(row) }
    }

    /// To be called after the value was pushed.
    #[inline]
    pub(crate) fn filled(&mut self) {
        self.valid.push(true);
    }

    #[inline]
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(v) => v.push(false),
            Values::Int(v) | Values::Time(v) => v.push(0),
            Values::Float(v) => v.push(0.0),
            Values::Bytes(v) | Values::Json(v) | Values::Text(v) => v.close(),
        }
        self.valid.push(false);
    }

    /// Fills with NULL up to `rows`.
    pub(crate) fn pad(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(v) => v.resize(rows, false),
            Values::Int(v) | Values::Time(v) => v.resize(rows, 0),
            Values::Float(v) => v.resize(rows, 0.0),
            Values::Bytes(v) | Values::Json(v) | Values::Text(v) => {
                let end = v.offsets[v.offsets.len() - 1];
                v.offsets.resize(rows + 1, end);
            }
        }
        self.valid.resize(rows, false);
    }

    /// Forgets everything from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if self.valid.len() <= rows {
            return;
        }
        match &mut self.values {
            Values::Bool(v) => v.truncate(rows),
            Values::Int(v) | Values::Time(v) => v.truncate(rows),
            Values::Float(v) => v.truncate(rows),
            Values::Bytes(v) | Values::Json(v) | Values::Text(v) => {
                v.offsets.truncate(rows + 1);
                v.bytes.truncate(v.offsets[rows] as usize);
            }
        }
        self.valid.truncate(rows);
    }

    /// What it takes once it is filled up to `rows`.
    pub(crate) fn bytes(&self, rows: usize) -> usize {
        match &self.values {
            Values::Bool(_) => rows * 2,
            Values::Int(_) | Values::Time(_) | Values::Float(_) => rows * 9,
            Values::Bytes(v) | Values::Json(v) | Values::Text(v) => rows * 5 + v.bytes.len(),
        }
    }

    /// Length of the variable part.
    pub(crate) fn slice_bytes(&self) -> usize {
        match &self.values {
            Values::Bytes(v) | Values::Json(v) | Values::Text(v) => v.bytes.len(),
            _ => 0,
        }
    }

    /// The same column, wider. Values are rewritten as `convert` does it for stored parts.
    pub(crate) fn widened(self, kind: ColumnType) -> Self {
        let rows = self.valid.len();
        let (name, shown, from) = (self.name.clone(), self.shown.clone(), self.kind());
        let old = self.into_array(rows);
        let mut wider = Self::new(name, shown, kind);
        let new = crate::convert::convert(&old, from, kind);
        crate::convert::refill(&mut wider, &new);
        wider
    }

    /// The column as an array of `rows` rows.
    pub(crate) fn into_array(mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        array(self.values, &self.valid)
    }

    /// Some of its rows, in this order; all of them must be filled in.
    pub(crate) fn gathered(&self, ranges: &[Range<usize>]) -> ArrayRef {
        let values = match &self.values {
            Values::Bool(v) => Values::Bool(gather(v, ranges)),
            Values::Int(v) => Values::Int(gather(v, ranges)),
            Values::Float(v) => Values::Float(gather(v, ranges)),
            Values::Time(v) => Values::Time(gather(v, ranges)),
            Values::Bytes(v) => Values::Bytes(v.gather(ranges)),
            Values::Json(v) => Values::Json(v.gather(ranges)),
            Values::Text(v) => Values::Text(v.gather(ranges)),
        };
        array(values, &gather(&self.valid, ranges))
    }

    /// Length of the variable part of some rows.
    pub(crate) fn slice_bytes_of(&self, rows: &Range<usize>) -> usize {
        match &self.values {
            Values::Bytes(v) | Values::Json(v) | Values::Text(v) => {
                (v.offsets[rows.end] - v.offsets[rows.start]) as usize
            }
            _ => 0,
        }
    }
}

fn array(values: Values, valid: &[bool]) -> ArrayRef {
    let nulls = valid.contains(&false).then(|| NullBuffer::new(BooleanBuffer::from(valid)));
    match values {
        Values::Bool(v) => Arc::new(BooleanArray::new(v.as_slice().into(), nulls)),
        Values::Int(v) => Arc::new(Int64Array::new(v.into(), nulls)),
        Values::Float(v) => Arc::new(Float64Array::new(v.into(), nulls)),
        Values::Time(v) => {
            Arc::new(TimestampMicrosecondArray::new(v.into(), nulls).with_timezone("UTC"))
        }
        Values::Bytes(v) => {
            let (offsets, bytes) = v.offsets();
            Arc::new(BinaryArray::new(offsets, bytes, nulls))
        }
        Values::Json(v) | Values::Text(v) => {
            let (offsets, bytes) = v.offsets();
            Arc::new(StringArray::new(offsets, bytes, nulls))
        }
    }
}

fn gather<T: Copy>(values: &[T], ranges: &[Range<usize>]) -> Vec<T> {
    let mut out = Vec::with_capacity(ranges.iter().map(Range::len).sum());
    for range in ranges {
        out.extend_from_slice(&values[range.clone()]);
    }
    out
}
