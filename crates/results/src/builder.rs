//! The segment that is being filled.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use muster_types::{OrgId, RowFormat};

use crate::buffer::TableBuffer;
use crate::container::SegmentWriter;
use crate::current::MIXED;
use crate::table::{Origin, PartInfo, RowClass, RowMeta, TableSpec};
use crate::{Error, limits};

/// What an append did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Rows added.
    pub rows: u32,
    /// Bytes of JSON read.
    pub bytes: u64,
    /// Values that did not fit their column's type; their rows are kept in `_raw`.
    pub cast_failures: u32,
}

/// A body that holds no rows we can take. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum BadRows {
    /// It is not UTF-8.
    #[error("rows are not UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    /// It is not JSON, or not rows.
    #[error("rows are not the JSON expected: {0}")]
    Json(#[from] serde_json::Error),
    /// A value is nested too deeply.
    #[error("a value is nested more than {} deep", limits::DEPTH)]
    TooDeep,
    /// It would take much more room in columns than it is long.
    #[error("{0} rows or more are too many for a body of this length")]
    TooManyRows(usize),
    /// It is too long for one segment; or a first flush is needed.
    #[error("{0} bytes of rows are too many for one segment")]
    TooLong(usize),
}

/// A value of a system row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A fraction.
    Float(f64),
    /// A time.
    Time(muster_types::Timestamp),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
}

/// A finished segment: the object to write, and what the manifest keeps of it.
#[derive(Debug)]
pub struct BuiltSegment {
    /// The container.
    pub bytes: Bytes,
    /// Its parts, in the order they stand.
    pub parts: Vec<PartInfo>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartKey {
    pub org: OrgId,
    pub table: String,
    pub class: RowClass,
    pub day: i64,
}

/// One open segment: column buffers of each (organisation, table, class, day).
///
/// Bounded by its user, who finishes it once [`SegmentBuilder::bytes`] is large enough.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    tables: BTreeMap<PartKey, TableBuffer>,
    bytes: usize,
    rows: u64,
}

impl SegmentBuilder {
    /// An empty segment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds rows of JSON, all of them or none.
    ///
    /// A key that comes twice in a row counts the last time, also when it differs only in case.
    /// Values that do not fit are NULL and their whole row is kept in `_raw`; an empty string is
    /// NULL in every column but text and JSON.
    ///
    /// # Errors
    /// [`BadRows`] when the body as a whole cannot be read; the builder is as before.
    pub fn append_json(
        &mut self,
        table: &Arc<TableSpec>,
        meta: &RowMeta,
        format: RowFormat,
        json: &[u8],
    ) -> Result<Appended, BadRows> {
        self.append_from(table, meta, Origin::Task, format, json)
    }

    /// As [`SegmentBuilder::append_json`], for rows of a schedule or a step of a state.
    ///
    /// # Errors
    /// As there.
    pub fn append_from(
        &mut self,
        table: &Arc<TableSpec>,
        meta: &RowMeta,
        origin: Origin<'_>,
        format: RowFormat,
        json: &[u8],
    ) -> Result<Appended, BadRows> {
        let body = std::str::from_utf8(json)?;
        let buffer = buffer(&mut self.tables, table, meta);
        let before = buffer.size();
        let result = buffer.append_json(table, meta, origin, format, body);
        self.bytes = self.bytes - before + buffer.size();
        let appended = result?;
        self.rows += u64::from(appended.rows);
        Ok(appended)
    }

    /// Adds one row of our own. Names that the table does not declare are left out.
    pub fn append_row(&mut self, table: &Arc<TableSpec>, meta: &RowMeta, row: &[(&str, Cell<'_>)]) {
        self.append_row_from(table, meta, Origin::Task, row);
    }

    /// As [`SegmentBuilder::append_row`], for a mark of a state, which has no value.
    pub fn append_row_from(
        &mut self,
        table: &Arc<TableSpec>,
        meta: &RowMeta,
        origin: Origin<'_>,
        row: &[(&str, Cell<'_>)],
    ) {
        let buffer = buffer(&mut self.tables, table, meta);
        let before = buffer.size();
        buffer.append_row(table, meta, origin, row);
        self.bytes = self.bytes - before + buffer.size();
        self.rows += 1;
    }

    /// Memory the rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Sorts and writes everything. This is the expensive step: call it where it blocks nobody.
    ///
    /// # Errors
    /// When Parquet refuses a column.
    pub fn finish(self) -> Result<BuiltSegment, Error> {
        let mut out = SegmentWriter::new();
        for (key, buffer) in self.tables {
            if buffer.rows() > 0 {
                let (mut part, file) = buffer.finish(key)?;
                part.byte_count = file.len() as u64;
                out.push(part, &file);
            }
        }
        let (bytes, parts) = out.finish();
        Ok(BuiltSegment { bytes, parts })
    }
}

fn buffer<'t>(
    tables: &'t mut BTreeMap<PartKey, TableBuffer>,
    table: &Arc<TableSpec>,
    meta: &RowMeta,
) -> &'t mut TableBuffer {
    let key = PartKey {
        org: meta.org,
        table: crate::fold(&table.name).into_owned(),
        class: table.class,
        day: if table.class == RowClass::Current { MIXED } else { meta.received_at.day() },
    };
    tables.entry(key).or_insert_with(|| TableBuffer::new(table))
}
