//! Equal rows into one, marks into one, and out into the buckets.

use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;
use muster_types::{AgentNo, HuntNo, OrgId};
use parquet::errors::ParquetError;

use super::bucket;
use super::cursor::{Cursor, Order};
use super::heap::Heap;
use super::out::{Out, Pick};
use crate::table::PartInfo;
use crate::{Dropped, Error, MergeError, MergedPart};

/// Rows that wait to be written, over all buckets.
const ROWS_HELD: usize = 1 << 16;
/// Pages kept for them besides those that are read.
const PAGES_HELD: usize = 64;

pub(super) struct Reduce<'a> {
    org: OrgId,
    table: String,
    order: Order,
    cursors: Vec<Cursor>,
    dropped: &'a Dropped,
    /// Pages that picked rows stand in, and those of the cursors.
    pages: Vec<RecordBatch>,
    page_of: Vec<usize>,
    picked: usize,
    outs: BTreeMap<i64, Out>,
    sources: HashMap<String, u32>,
    /// The generation that counts.
    live: HashMap<(i64, u32), i64>,
}

/// Rows that are equal, or marks of one agent and source.
struct Group {
    key: Vec<u8>,
    agent: i64,
    source: u32,
    mark: bool,
    /// Where one of them stands.
    page: usize,
    row: usize,
    /// Of marks the greatest.
    generation: i64,
    /// Of marks the latest of that generation, of rows the earliest that came.
    received: i64,
    came: bool,
    count: i64,
    gap: bool,
}

impl<'a> Reduce<'a> {
    pub(super) fn new(
        org: OrgId,
        table: &str,
        order: Order,
        cursors: Vec<Cursor>,
        dropped: &'a Dropped,
    ) -> Self {
        let page_of = vec![usize::MAX; cursors.len()];
        let mut reduce = Self {
            org,
            table: table.to_owned(),
            order,
            cursors,
            dropped,
            pages: Vec::new(),
            page_of,
            picked: 0,
            outs: BTreeMap::new(),
            sources: HashMap::new(),
            live: HashMap::new(),
        };
        (0..reduce.cursors.len()).for_each(|at| reduce.register(at));
        reduce
    }

    pub(super) fn run(mut self) -> Result<Vec<MergedPart>, MergeError> {
        let there = (0..self.cursors.len()).filter(|at| self.cursors[*at].page.is_some());
        let mut heap = Heap::new(there.collect(), |a, b| less(&self.cursors, a, b));
        let mut group: Option<Group> = None;
        while let Some(at) = heap.least() {
            self.step(at, &mut group)?;
            let cursor = &mut self.cursors[at];
            cursor.at += 1;
            if cursor.page.as_ref().is_some_and(|page| cursor.at < page.batch.num_rows()) {
                heap.moved(|a, b| less(&self.cursors, a, b));
                continue;
            }
            cursor.advance(&self.order)?;
            if cursor.page.is_some() {
                self.register(at);
                heap.moved(|a, b| less(&self.cursors, a, b));
            } else {
                heap.ended(|a, b| less(&self.cursors, a, b));
            }
            let held = self.pages.len() > self.cursors.len() + PAGES_HELD;
            if held || self.picked >= ROWS_HELD {
                self.flush(group.as_mut())?;
            }
        }
        self.close(group.take())?;
        self.flush(None)?;
        let mut parts = Vec::with_capacity(self.outs.len());
        for out in std::mem::take(&mut self.outs).into_values() {
            let file = out.file.finish()?;
            let info = PartInfo {
                byte_count: file.len() as u64,
                columns: self.order.columns.clone(),
                ..out.info
            };
            parts.push(MergedPart { info, file });
        }
        Ok(parts)
    }

    /// Notes the page that a cursor stands in.
    fn register(&mut self, at: usize) {
        if let Some(page) = &self.cursors[at].page {
            self.page_of[at] = self.pages.len();
            self.pages.push(page.batch.clone());
        }
    }

    /// Takes the row that a cursor stands at into its group, which may be the next one.
    fn step(&mut self, at: usize, group: &mut Option<Group>) -> Result<(), MergeError> {
        let cursor = &self.cursors[at];
        let (Some(page), Some(key)) = (&cursor.page, cursor.key()) else { return Ok(()) };
        let row = cursor.at;
        let agent = page.agents.value(row);
        if let Some(last) = group
            && last.key != key
        {
            if *last.key > *key {
                return Err(cursor.broken("rows are not in the order it names"));
            }
            let done = group.take();
            self.close(done)?;
        }
        let cursor = &self.cursors[at];
        let (Some(page), Some(key)) = (&cursor.page, cursor.key()) else { return Ok(()) };
        let (received, count) = (page.received.value(row), page.counts.value(row));
        let (generation, gap) = (page.generations.value(row), page.gaps.value(row));
        let group = match group {
            Some(group) => group,
            None => {
                let source = intern(&mut self.sources, page.sources.value(row));
                let mark = count == 0;
                let live = if mark { None } else { self.live.get(&(agent, source)).copied() };
                group.insert(Group {
                    key: key.to_vec(),
                    agent,
                    source,
                    mark,
                    page: self.page_of[at],
                    row,
                    generation: live.unwrap_or(generation),
                    received,
                    came: count > 0,
                    count: 0,
                    gap: false,
                })
            }
        };
        group.add(received, generation, count, gap);
        Ok(())
    }

    /// Puts a group out that is complete.
    fn close(&mut self, group: Option<Group>) -> Result<(), MergeError> {
        let Some(group) = group else { return Ok(()) };
        let agent = AgentNo(u32::try_from(group.agent).unwrap_or(0));
        if self.dropped.drops(agent, HuntNo(0)) {
            return Ok(());
        }
        if group.mark {
            self.live.insert((group.agent, group.source), group.generation);
        } else if group.count == 0 {
            return Ok(());
        }
        let bucket = bucket(agent);
        if !self.outs.contains_key(&bucket) {
            let out = Out::new(self.org, &self.table, bucket, &self.order)?;
            self.outs.insert(bucket, out);
        }
        let Some(out) = self.outs.get_mut(&bucket) else { return Ok(()) };
        out.note(agent, group.received);
        out.picks.push(Pick {
            page: group.page,
            row: group.row,
            received: group.received,
            generation: group.generation,
            count: i32::try_from(group.count).unwrap_or(if group.count < 0 {
                i32::MIN
            } else {
                i32::MAX
            }),
            gap: group.gap,
        });
        self.picked += 1;
        Ok(())
    }

    /// Writes what was picked, and keeps only the pages that are still needed.
    fn flush(&mut self, group: Option<&mut Group>) -> Result<(), MergeError> {
        for out in self.outs.values_mut() {
            let written = out.write(&self.pages, &self.order);
            written.map_err(|why| Error::from(ParquetError::from(why)))??;
        }
        self.picked = 0;
        let open = group.map(|group| (self.pages[group.page].clone(), group));
        self.pages.clear();
        if let Some((page, group)) = open {
            group.page = 0;
            self.pages.push(page);
        }
        (0..self.cursors.len()).for_each(|at| self.register(at));
        Ok(())
    }
}

fn less(cursors: &[Cursor], a: usize, b: usize) -> bool {
    (cursors[a].key(), a) < (cursors[b].key(), b)
}

fn intern(sources: &mut HashMap<String, u32>, name: &str) -> u32 {
    if let Some(known) = sources.get(name) {
        return *known;
    }
    let next = u32::try_from(sources.len()).unwrap_or(u32::MAX);
    sources.insert(name.to_owned(), next);
    next
}

impl Group {
    fn add(&mut self, received: i64, generation: i64, count: i32, gap: bool) {
        if self.mark {
            match generation.cmp(&self.generation) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    self.received = self.received.max(received);
                    self.gap |= gap;
                }
                std::cmp::Ordering::Greater => {
                    (self.generation, self.received, self.gap) = (generation, received, gap);
                }
            }
            return;
        }
        // Going does not make a row older.
        if count > 0 {
            let first = !std::mem::replace(&mut self.came, true);
            self.received = if first { received } else { self.received.min(received) };
        }
        if generation == self.generation {
            self.count += i64::from(count);
        }
    }
}
