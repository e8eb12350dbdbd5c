//! The rows of one table in one open segment.

use std::collections::HashMap;
use std::sync::Arc;

use muster_types::RowFormat;

use crate::builder::{Appended, BadRows, Cell};
use crate::cell::{self, Put, Scalar};
use crate::column::Column;
use crate::parse::{self, Sink};
use crate::system::{Run, Sources};
use crate::table::{Origin, RowMeta, TableSpec};
use crate::{ColumnDecl, ColumnType, limits, sql_name, widen};

/// Names that were looked up are remembered by their place in the row: agents send the same keys
/// in the same order. At most this many places.
const REMEMBERED: usize = 2 * limits::COLUMNS;
/// What the server's columns of a row take, which are made when the segment is: a row of an agent may be nothing
/// else.
const SYSTEM_BYTES: usize = 128;
/// As how many cells they count.
const SYSTEM_CELLS: usize = 4;

#[derive(Debug)]
pub(crate) struct TableBuffer {
    pub(crate) spec: Arc<TableSpec>,
    pub(crate) columns: Vec<Column>,
    pub(crate) runs: Vec<Run>,
    pub(crate) sources: Sources,
    pub(crate) raw: Column,
    pub(crate) extra: Column,
    index: HashMap<String, usize>,
    /// The key last seen at each place of a row, and its column.
    order: Vec<(Box<str>, Option<usize>)>,
    place: usize,
    rows: usize,
    size: usize,
    /// First row of the running append, and how many cells it may have.
    start: usize,
    cells_max: usize,
    /// `_extra` of the current row.
    extra_json: String,
    /// Rows of the running append with a value that did not fit.
    failed: Vec<usize>,
    cast_failures: u32,
    again: bool,
    /// Whether columns that are found now read the text of their values.
    careful: bool,
    refused: Option<BadRows>,
}

impl TableBuffer {
    pub(crate) fn new(spec: &Arc<TableSpec>) -> Self {
        let text = |name: &str| Column::new(name.into(), name.into(), ColumnType::Text);
        let mut buffer = Self {
            spec: Arc::clone(spec),
            columns: Vec::new(),
            runs: Vec::new(),
            sources: Sources::default(),
            raw: text("_raw"),
            extra: text("_extra"),
            index: HashMap::new(),
            order: Vec::new(),
            place: 0,
            rows: 0,
            size: 0,
            start: 0,
            cells_max: 0,
            extra_json: String::new(),
            failed: Vec::new(),
            cast_failures: 0,
            again: false,
            careful: false,
            refused: None,
        };
        buffer.declare(&spec.columns);
        buffer
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Memory, as of the last append.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn append_json(
        &mut self,
        spec: &Arc<TableSpec>,
        meta: &RowMeta,
        origin: Origin<'_>,
        format: RowFormat,
        body: &str,
    ) -> Result<Appended, BadRows> {
        // A value never takes more bytes than its JSON, so no column can pass 2 GiB.
        let longest = self.columns.iter().map(Column::slice_bytes).max().unwrap_or(0);
        let longest = longest.max(self.raw.slice_bytes()).max(self.extra.slice_bytes());
        if body.len() > limits::BODY_BYTES || longest + 2 * body.len() > i32::MAX as usize {
            return Err(BadRows::TooLong(body.len()));
        }
        self.adopt(spec);
        self.cells_max = limits::FREE_CELLS.max(body.len());
        self.start = self.rows;
        let known = self.columns.len();
        if let Err(why) = self.read(format, body) {
            self.cut();
            self.columns.truncate(known);
            self.index.retain(|_, slot| *slot < known);
            self.order.clear();
            return Err(why);
        }
        if !self.failed.is_empty() {
            let (raw, start) = (&mut self.raw, self.start);
            parse::texts(format, body, &self.failed, |row, text| {
                raw.start(start + row);
                cell::put(raw, Scalar::Text(text));
            });
        }
        self.close(meta, origin);
        Ok(Appended {
            rows: u32::try_from(self.rows - self.start).unwrap_or(u32::MAX),
            bytes: body.len() as u64,
            cast_failures: self.cast_failures,
        })
    }

    pub(crate) fn append_row(
        &mut self,
        spec: &Arc<TableSpec>,
        meta: &RowMeta,
        origin: Origin<'_>,
        row: &[(&str, Cell<'_>)],
    ) {
        self.adopt(spec);
        self.start = self.rows;
        for (name, value) in row {
            let slot = sql_name(name).and_then(|name| self.index.get(name.as_ref()).copied());
            debug_assert!(slot.is_some(), "{name} is no column of {}", self.spec.name);
            if let Some(slot) = slot {
                let column = &mut self.columns[slot];
                column.start(self.rows);
                cell::put_own(column, *value);
            }
        }
        self.rows += 1;
        self.close(meta, origin);
    }

    fn read(&mut self, format: RowFormat, body: &str) -> Result<(), BadRows> {
        self.cut();
        let mut read = parse::rows(format, body, self);
        // Escaped halves of surrogate pairs: serde refuses them in strings, not in raw values.
        let halves = || body.contains("\\ud") || body.contains("\\uD");
        if matches!(read, Err(BadRows::Json(_))) && self.refused.is_none() && halves() {
            self.careful = true;
            self.columns.iter_mut().for_each(|column| column.raw = true);
            self.again = true;
        } else if read.is_err() {
            self.again = false;
        }
        if self.again {
            // The second time every column that needs its text is known.
            self.cut();
            read = parse::rows(format, body, self);
            debug_assert!(!self.again, "a column asks for its text once");
        }
        self.careful = false;
        self.refused.take().map_or(read, Err)
    }

    /// Back to where the running append began.
    fn cut(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.start);
        }
        self.raw.truncate(self.start);
        self.extra.truncate(self.start);
        self.rows = self.start;
        self.failed.clear();
        self.cast_failures = 0;
        self.again = false;
        self.extra_json.clear();
    }

    /// Notes whose rows the last ones are. Rows of one record are numbered through.
    fn close(&mut self, meta: &RowMeta, origin: Origin<'_>) {
        let len = self.rows - self.start;
        if len > 0 {
            let same = self
                .runs
                .last()
                .filter(|last| (last.meta.shard, last.meta.pos) == (meta.shard, meta.pos));
            let first = same.map_or(0, |last| {
                last.first.saturating_add(u32::try_from(last.len).unwrap_or(u32::MAX))
            });
            let origin = self.sources.place(origin);
            self.runs.push(Run { meta: *meta, start: self.start, len, first, origin });
        }
        let columns = self.columns.iter().chain([&self.raw, &self.extra]);
        self.size = columns.map(|column| column.bytes(self.rows)).sum::<usize>()
            + self.runs.len() * size_of::<Run>()
            + self.rows * SYSTEM_BYTES;
    }

    /// Takes over a declaration: new columns are added, types widened.
    fn adopt(&mut self, spec: &Arc<TableSpec>) {
        if Arc::ptr_eq(spec, &self.spec) {
            return;
        }
        if *spec != self.spec {
            self.order.clear();
            self.declare(&spec.columns);
        }
        self.spec = Arc::clone(spec);
    }

    fn declare(&mut self, columns: &[ColumnDecl]) {
        for declared in columns {
            let Some(name) = sql_name(&declared.name) else { continue };
            if let Some(&slot) = self.index.get(name.as_ref()) {
                let kind = self.columns[slot].kind();
                let wider = widen(kind, declared.kind);
                if wider != kind {
                    let empty = Column::new(String::new(), String::new(), kind);
                    let old = std::mem::replace(&mut self.columns[slot], empty);
                    self.columns[slot] = old.widened(wider);
                }
            } else if self.columns.len() < limits::COLUMNS {
                self.add(name.into_owned(), &declared.name, declared.kind);
            }
        }
    }

    fn add(&mut self, name: String, shown: &str, kind: ColumnType) -> usize {
        let slot = self.columns.len();
        self.index.insert(name.clone(), slot);
        let mut column = Column::new(name, shown.to_owned(), kind);
        column.raw |= self.careful;
        self.columns.push(column);
        slot
    }

    #[cold]
    fn look_up(&mut self, key: &str) -> Option<usize> {
        let name = sql_name(key)?;
        let slot = self.index.get(name.as_ref()).copied();
        if slot.is_some() || !self.spec.open || self.columns.len() >= limits::COLUMNS {
            return slot;
        }
        Some(self.add(name.into_owned(), key, ColumnType::Text))
    }

    fn fail(&mut self) {
        self.cast_failures = self.cast_failures.saturating_add(1);
        let row = self.rows - self.start;
        if self.failed.last() != Some(&row) {
            self.failed.push(row);
        }
    }
}

impl Sink for TableBuffer {
    #[inline]
    fn begin(&mut self) -> Result<(), BadRows> {
        self.place = 0;
        let rows = self.rows - self.start + 1;
        if rows * (self.columns.len() + SYSTEM_CELLS) > self.cells_max {
            return Err(BadRows::TooManyRows(rows));
        }
        Ok(())
    }

    #[inline]
    fn slot(&mut self, key: &str) -> Option<usize> {
        let place = self.place;
        self.place += 1;
        if let Some((known, slot)) = self.order.get(place)
            && **known == *key
        {
            return *slot;
        }
        let slot = self.look_up(key);
        if key.len() <= limits::COLUMN_NAME_BYTES {
            if place < self.order.len() {
                self.order[place] = (key.into(), slot);
            } else if place == self.order.len() && place < REMEMBERED {
                self.order.push((key.into(), slot));
            }
        }
        slot
    }

    #[inline]
    fn column(&mut self, slot: usize) -> &mut Column {
        let column = &mut self.columns[slot];
        column.start(self.rows);
        column
    }

    #[cold]
    fn put(&mut self, slot: usize, put: Put) {
        match put {
            Put::Stored => {}
            Put::Failed => self.fail(),
            Put::NeedsText => {
                self.columns[slot].raw = true;
                self.again = true;
            }
        }
    }

    fn extra(&mut self, key: &str, json: &str) {
        if self.extra_json.len() + key.len() + json.len() + 8 > limits::CELL_BYTES {
            self.fail();
            return;
        }
        self.extra_json.push(if self.extra_json.is_empty() { '{' } else { ',' });
        self.extra_json.push_str(&serde_json::Value::from(key).to_string());
        self.extra_json.push(':');
        self.extra_json.push_str(json);
    }

    fn refuse(&mut self, why: BadRows) {
        self.refused = Some(why);
    }

    #[inline]
    fn end(&mut self) {
        if !self.extra_json.is_empty() {
            self.extra_json.push('}');
            self.extra.start(self.rows);
            let put = cell::put(&mut self.extra, Scalar::Text(&self.extra_json));
            debug_assert_eq!(put, Put::Stored);
            self.extra_json.clear();
        }
        self.rows += 1;
    }
}
