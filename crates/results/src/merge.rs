//! Several sorted parts of one table into one, without holding more than a few rows of each.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{
    DataType, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use bytes::Bytes;
use muster_types::{AgentNo, AgentSet, HuntNo, OrgId, Timestamp};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::file::{FileWriter, Purpose};
use crate::spill::{into_extra, spilled, united};
use crate::table::{PartInfo, RowClass};
use crate::{ColumnDecl, ColumnType, Error, column_types, conform, merged_schema};

/// Rows in memory, over all sources.
const ROWS_HELD: usize = 1 << 17;
/// Bytes in memory, over all sources, when rows are up to [`UNEVEN`] times as long as those of their file on the
/// average.
const BYTES_HELD: u64 = 256 << 20;
const UNEVEN: u64 = 4;
/// Rows written at once.
const ROWS_WRITTEN: usize = 8192;

/// Which rows a merge leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dropped {
    /// Rows of these agents.
    pub agents: AgentSet,
    /// Rows of these hunts.
    pub hunts: BTreeSet<HuntNo>,
    /// Everything but rows of these hunts, where it is given.
    pub all_but: Option<BTreeSet<HuntNo>>,
}

impl Dropped {
    /// Whether a row goes. `hunt` is 0 for none.
    #[must_use]
    pub fn drops(&self, agent: AgentNo, hunt: HuntNo) -> bool {
        self.agents.contains(agent)
            || self.hunts.contains(&hunt)
            || self.all_but.as_ref().is_some_and(|kept| !kept.contains(&hunt))
    }
}

/// A part to merge: a whole Parquet file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: Bytes,
}

/// What came out.
#[derive(Debug)]
pub struct MergedPart {
    /// What the manifest keeps of it; its place is still open.
    pub info: PartInfo,
    /// The Parquet file.
    pub file: Vec<u8>,
}

/// Why parts cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A part is not what it should be; counted from 0.
    #[error("source {index}: {reason}")]
    Damaged {
        /// Which.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The result cannot be written.
    #[error(transparent)]
    Write(#[from] Error),
}

/// Merges parts of one table, class and day. The schema is the union of theirs with types widened;
/// what a part lacks is NULL. `None` when no row is left.
///
/// # Errors
/// When a part cannot be read.
pub fn merge_parts(
    org: OrgId,
    table: &str,
    class: RowClass,
    day: i64,
    sources: &[Source],
    dropped: &Dropped,
) -> Result<Option<MergedPart>, MergeError> {
    let rows_each = (ROWS_HELD / sources.len().max(1)).clamp(64, ROWS_WRITTEN);
    let mut cursors = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let bytes_each = BYTES_HELD / sources.len().max(1) as u64;
        let cursor = Cursor::open(index, source, (rows_each, bytes_each), class);
        cursors.push(cursor.map_err(|why| damaged(index, &why))?);
    }
    let columns = united(cursors.iter().map(|cursor| &*cursor.types));
    for cursor in &mut cursors {
        cursor.spilled = spilled(&cursor.types, &columns);
    }
    let schema = schema(&columns, &cursors);
    for cursor in &mut cursors {
        cursor.advance(&columns, &schema)?;
    }
    let info = PartInfo {
        org,
        table: table.to_owned(),
        class,
        day,
        byte_offset: 0,
        byte_count: 0,
        row_count: 0,
        received_min: Timestamp(i64::MAX),
        received_max: Timestamp(i64::MIN),
        agent_min: AgentNo(u32::MAX),
        agent_max: AgentNo(0),
        hunt_min: HuntNo(u64::MAX),
        hunt_max: HuntNo(0),
        columns,
    };
    Merge { cursors, schema, info, picked: Vec::new() }.run(dropped)
}

pub(crate) fn damaged(index: usize, why: &dyn std::fmt::Display) -> MergeError {
    MergeError::Damaged { index, reason: why.to_string() }
}

/// The union's schema, without the system columns that no part has.
fn schema(columns: &[ColumnDecl], cursors: &[Cursor]) -> SchemaRef {
    let full = merged_schema(columns);
    let spills = cursors.iter().any(|cursor| !cursor.spilled.is_empty());
    let has = |name: &str| cursors.iter().any(|c| c.schema.column_with_name(name).is_some());
    let present = |name: &str| (spills && name == "_extra") || has(name);
    let kept = full.fields().iter().filter(|field| present(field.name())).cloned();
    Arc::new(Schema::new(kept.collect::<Vec<_>>()))
}

/// What rows are ordered by: hunt (0 where it does not count), agent, time, place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    order: i64,
    agent: i64,
    received: i64,
    shard: u32,
    pos: u64,
    row: u32,
}

struct Cursor {
    index: usize,
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    types: Vec<ColumnDecl>,
    /// Those that the merged part has no room for.
    spilled: Vec<ColumnDecl>,
    class: RowClass,
    keys: Vec<Key>,
    hunts: Vec<i64>,
    /// Next row of the batch.
    at: usize,
    batch: Option<RecordBatch>,
}

impl Cursor {
    fn open(
        index: usize,
        source: &Source,
        (rows, bytes): (usize, u64),
        class: RowClass,
    ) -> Result<Self, parquet::errors::ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(source.file.clone())?;
        let schema = Arc::clone(builder.schema());
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let types = column_types(&schema, metadata);
        let fitting = bytes / (longest_average(builder.metadata()) * UNEVEN).max(1);
        let rows = rows.min(usize::try_from(fitting).unwrap_or(rows)).max(1);
        let reader = builder.with_batch_size(rows).build()?;
        let (keys, hunts, spilled) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { index, reader, schema, types, spilled, class, keys, hunts, at: 0, batch: None })
    }

    /// Reads the next batch; none at the end.
    fn advance(&mut self, columns: &[ColumnDecl], schema: &SchemaRef) -> Result<(), MergeError> {
        self.at = 0;
        self.batch = None;
        while let Some(batch) = self.reader.next() {
            let conformed = batch.and_then(|batch| {
                if batch.num_rows() > 0 {
                    self.read_keys(&batch)?;
                }
                let conformed = conform(&batch, &self.types, columns, schema)?;
                match self.spilled.is_empty() {
                    true => Ok(conformed),
                    false => into_extra(&batch, &conformed, &self.spilled),
                }
            });
            let conformed = conformed.map_err(|why| damaged(self.index, &why))?;
            if conformed.num_rows() > 0 {
                self.batch = Some(conformed);
                break;
            }
        }
        Ok(())
    }

    fn read_keys(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let column = |name: &str, kind: DataType| {
            let array = batch.column_by_name(name);
            let array =
                array.ok_or_else(|| ArrowError::SchemaError(format!("column {name} missing")))?;
            cast(array, &kind)
        };
        let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
        let (hunt, agent) = (column("hunt", DataType::Int64)?, column("agent", DataType::Int64)?);
        let (received, shard) =
            (column("received_time", time)?, column("_shard", DataType::UInt32)?);
        let (pos, row) = (column("_pos", DataType::UInt64)?, column("_row", DataType::UInt32)?);
        let hunt = hunt.as_primitive::<Int64Type>();
        let agent = agent.as_primitive::<Int64Type>().values();
        let received = received.as_primitive::<TimestampMicrosecondType>().values();
        let shard = shard.as_primitive::<UInt32Type>().values();
        let pos = pos.as_primitive::<UInt64Type>().values();
        let row = row.as_primitive::<UInt32Type>().values();
        self.keys.clear();
        self.hunts.clear();
        for at in 0..batch.num_rows() {
            let number = if hunt.is_null(at) { 0 } else { hunt.value(at) };
            self.hunts.push(number);
            self.keys.push(Key {
                order: if self.class == RowClass::Scheduled { 0 } else { number },
                agent: agent[at],
                received: received[at],
                shard: shard[at],
                pos: pos[at],
                row: row[at],
            });
        }
        Ok(())
    }
}

/// Bytes of a row as it is held, on the average of the row group where that is most. What is told as often as it
/// occurs is stored once, so the length of the file says little.
fn longest_average(metadata: &ParquetMetaData) -> u64 {
    let average = |group: &RowGroupMetaData| {
        let bytes = group.columns().iter().map(|column| {
            let texts = column.unencoded_byte_array_data_bytes();
            let texts = texts.unwrap_or_else(|| column.uncompressed_size());
            u64::try_from(texts).unwrap_or(0)
        });
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        bytes.sum::<u64>() / rows + 8 * group.num_columns() as u64
    };
    metadata.row_groups().iter().map(average).max().unwrap_or(0)
}

struct Merge {
    cursors: Vec<Cursor>,
    schema: SchemaRef,
    info: PartInfo,
    /// Rows to write next: (source, row of its batch).
    picked: Vec<(usize, usize)>,
}

impl Merge {
    fn run(mut self, dropped: &Dropped) -> Result<Option<MergedPart>, MergeError> {
        let columns = std::mem::take(&mut self.info.columns);
        let json = columns.iter().filter(|column| column.kind == ColumnType::Json);
        let json: Vec<&str> = json.map(|column| column.name.as_str()).collect();
        let mut file = FileWriter::new(Arc::clone(&self.schema), &json, None, Purpose::Settled)?;
        let mut heap: BinaryHeap<_> = self
            .cursors
            .iter()
            .filter(|cursor| cursor.batch.is_some())
            .map(|cursor| Reverse((cursor.keys[0], cursor.index)))
            .collect();
        while let Some(Reverse((_, index))) = heap.pop() {
            let next = heap.peek().map(|Reverse((key, index))| (*key, *index));
            self.take(index, next, dropped);
            let cursor = &self.cursors[index];
            let drained = cursor.at == cursor.keys.len();
            if drained || self.picked.len() >= ROWS_WRITTEN {
                self.write(&mut file)?;
            }
            let cursor = &mut self.cursors[index];
            if drained {
                cursor.advance(&columns, &self.schema)?;
            }
            if cursor.batch.is_some() {
                heap.push(Reverse((cursor.keys[cursor.at], index)));
            }
        }
        self.info.columns = columns;
        if self.info.row_count == 0 {
            return Ok(None);
        }
        let file = file.finish()?;
        self.info.byte_count = file.len() as u64;
        Ok(Some(MergedPart { info: self.info, file }))
    }

    /// Picks the rows of a source that come before `next`.
    fn take(&mut self, index: usize, next: Option<(Key, usize)>, dropped: &Dropped) {
        let (cursor, info) = (&mut self.cursors[index], &mut self.info);
        // The first row is the least of all; whether a file is in order or not, each step moves on.
        loop {
            let (key, hunt) = (cursor.keys[cursor.at], cursor.hunts[cursor.at]);
            let agent = AgentNo(u32::try_from(key.agent).unwrap_or(0));
            let hunt = HuntNo(u64::try_from(hunt).unwrap_or(0));
            if !dropped.drops(agent, hunt) {
                self.picked.push((index, cursor.at));
                info.row_count += 1;
                let received = Timestamp(key.received);
                info.received_min = info.received_min.min(received);
                info.received_max = info.received_max.max(received);
                info.agent_min = info.agent_min.min(agent);
                info.agent_max = info.agent_max.max(agent);
                info.hunt_min = info.hunt_min.min(hunt);
                info.hunt_max = info.hunt_max.max(hunt);
            }
            cursor.at += 1;
            let ends = cursor.at == cursor.keys.len() || self.picked.len() >= ROWS_WRITTEN;
            if ends || next.is_some_and(|next| (cursor.keys[cursor.at], index) > next) {
                return;
            }
        }
    }

    fn write(&mut self, file: &mut FileWriter) -> Result<(), MergeError> {
        if self.picked.is_empty() {
            return Ok(());
        }
        // Only the sources that rows were picked from.
        let mut batches = Vec::new();
        let mut places = vec![usize::MAX; self.cursors.len()];
        let mut rows = Vec::with_capacity(self.picked.len());
        for &(source, row) in &self.picked {
            if places[source] == usize::MAX
                && let Some(batch) = &self.cursors[source].batch
            {
                places[source] = batches.len();
                batches.push(batch);
            }
            rows.push((places[source], row));
        }
        let batch = interleave_record_batch(&batches, &rows)
            .map_err(|why| Error::from(parquet::errors::ParquetError::from(why)))?;
        file.write(&batch)?;
        self.picked.clear();
        Ok(())
    }
}
