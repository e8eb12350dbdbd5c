//! One part of a merge that is being written.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;
use muster_types::{AgentNo, HuntNo, OrgId, Timestamp};

use super::Layout;
use super::cursor::Order;
use crate::file::{FileWriter, Purpose};
use crate::table::{PartInfo, RowClass};
use crate::{ColumnType, Error, MergeError};

/// One part that is being written.
pub(super) struct Out {
    pub file: FileWriter,
    pub info: PartInfo,
    pub picks: Vec<Pick>,
}

/// A row to write.
pub(super) struct Pick {
    pub page: usize,
    pub row: usize,
    pub received: i64,
    pub generation: i64,
    pub count: i32,
    pub gap: bool,
}

impl Out {
    pub(super) fn new(
        org: OrgId,
        table: &str,
        bucket: i64,
        order: &Order,
    ) -> Result<Self, MergeError> {
        let json = order.columns.iter().filter(|column| column.kind == ColumnType::Json);
        let json: Vec<&str> = json.map(|column| column.name.as_str()).collect();
        let layout = Layout { first: order.first.clone(), sorted: true };
        let schema = Arc::clone(&order.schema);
        let file = FileWriter::new(schema, &json, Some(&layout), Purpose::Settled)?;
        let info = PartInfo {
            org,
            table: table.to_owned(),
            class: RowClass::Current,
            day: bucket,
            byte_offset: 0,
            byte_count: 0,
            row_count: 0,
            received_min: Timestamp(i64::MAX),
            received_max: Timestamp(i64::MIN),
            agent_min: AgentNo(u32::MAX),
            agent_max: AgentNo(0),
            hunt_min: HuntNo(0),
            hunt_max: HuntNo(0),
            columns: Vec::new(),
        };
        Ok(Self { file, info, picks: Vec::new() })
    }

    pub(super) fn note(&mut self, agent: AgentNo, received: i64) {
        let (info, received) = (&mut self.info, Timestamp(received));
        info.row_count += 1;
        info.received_min = info.received_min.min(received);
        info.received_max = info.received_max.max(received);
        info.agent_min = info.agent_min.min(agent);
        info.agent_max = info.agent_max.max(agent);
    }

    pub(super) fn write(
        &mut self,
        pages: &[RecordBatch],
        order: &Order,
    ) -> Result<Result<(), Error>, ArrowError> {
        if self.picks.is_empty() {
            return Ok(Ok(()));
        }
        // Only the pages that rows were picked from.
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut places = vec![usize::MAX; pages.len()];
        let mut rows = Vec::with_capacity(self.picks.len());
        for pick in &self.picks {
            if places[pick.page] == usize::MAX {
                places[pick.page] = batches.len();
                batches.push(&pages[pick.page]);
            }
            rows.push((places[pick.page], pick.row));
        }
        let same = interleave_record_batch(&batches, &rows)?;
        let times: TimestampMicrosecondArray =
            self.picks.iter().map(|p| Some(p.received)).collect();
        let new = |name: &str| -> Option<ArrayRef> {
            let picks = self.picks.iter();
            Some(match name {
                "received_time" => Arc::new(times.clone().with_timezone("UTC")),
                "_generation" => {
                    Arc::new(Int64Array::from_iter_values(picks.map(|p| p.generation)))
                }
                "_count" => Arc::new(Int32Array::from_iter_values(picks.map(|p| p.count))),
                "_gap" => Arc::new(picks.map(|p| Some(p.gap)).collect::<BooleanArray>()),
                _ => return None,
            })
        };
        let columns = order.schema.fields().iter().zip(same.columns());
        let columns =
            columns.map(|(field, same)| new(field.name()).unwrap_or_else(|| Arc::clone(same)));
        let batch = RecordBatch::try_new(Arc::clone(&order.schema), columns.collect())?;
        self.picks.clear();
        Ok(self.file.write(&batch))
    }
}
