//! Open tasks as rows of `collections`, made while they are read.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array, new_null_array,
};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use muster_endpoints::Snapshot;
use muster_types::{AgentNo, OrgId};

use super::Fleet;
use super::open::OpenTasks;
use super::virtuals::Virtual;

const BATCH: usize = 8_192;
/// Only tasks of newer attempts end with another number; which one runs, the fold alone knows.
const ATTEMPT: i32 = 1;

/// Rows of open tasks, with the columns of `schema`.
#[derive(Clone, Debug)]
pub(super) struct OpenRows {
    pub org: OrgId,
    pub tasks: Vec<Arc<OpenTasks>>,
    pub fleet: Arc<Fleet>,
    pub directory: Snapshot,
    pub schema: SchemaRef,
}

impl OpenRows {
    pub(super) fn exec(self) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(self)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, [], false, None)?))
    }

    fn batch(&self, tasks: &OpenTasks, from: u32) -> Result<RecordBatch> {
        let first = tasks.agents.select(from).unwrap_or_default();
        let agents: Vec<AgentNo> = tasks.agents.range(first..).take(BATCH).map(AgentNo).collect();
        let columns = self.schema.fields().iter().map(|field| {
            let column = self.column(field, tasks, &agents)?;
            Ok(arrow::compute::cast(&column, field.data_type())?)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(agents.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)?)
    }

    fn column(&self, field: &Field, tasks: &OpenTasks, agents: &[AgentNo]) -> Result<ArrayRef> {
        let rows = agents.len();
        let numbers = || Int64Array::from_iter_values(agents.iter().map(|no| i64::from(no.0)));
        let small = |of: &dyn Fn(&AgentNo) -> u32| -> ArrayRef {
            Arc::new(UInt32Array::from_iter_values(agents.iter().map(of)))
        };
        let name = field.name().as_str();
        if let Some(column) = Virtual::ALL.into_iter().find(|column| column.name() == name) {
            return column.of(&self.fleet, &numbers() as &dyn Array);
        }
        Ok(match name {
            "agent" => Arc::new(numbers()),
            "agent_kind" => {
                let kind = |no| self.directory.agent(no).map_or("", |a| a.kind.as_str());
                Arc::new(StringArray::from_iter_values(agents.iter().map(|no| kind(*no))))
            }
            "hunt" => Arc::new(Int64Array::from_value(tasks.hunt.0.cast_signed(), rows)),
            "attempt" => Arc::new(Int32Array::from_value(ATTEMPT, rows)),
            "late" => Arc::new(BooleanArray::from(vec![false; rows])),
            "received_time" => Arc::new(
                TimestampMicrosecondArray::from_value(tasks.since.0, rows).with_timezone("UTC"),
            ),
            "outcome" => {
                let word = std::iter::repeat_n(tasks.outcome.as_str(), rows);
                Arc::new(StringArray::from_iter_values(word))
            }
            "_org" => Arc::new(UInt32Array::from_value(self.org.0.into(), rows)),
            "_shard" => small(&|no| no.shard().get().into()),
            // Not in the stream yet: behind all that is, and one of each.
            "_pos" => Arc::new(UInt64Array::from_value(u64::MAX - tasks.hunt.0, rows)),
            "_row" => small(&|no| no.local()),
            _ => new_null_array(field.data_type(), rows),
        })
    }
}

impl PartitionStream for OpenRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.clone();
        let batches = (0..rows.tasks.len()).flat_map({
            let lengths: Vec<u64> = rows.tasks.iter().map(|tasks| tasks.agents.len()).collect();
            move |n| (0..lengths[n] as u32).step_by(BATCH).map(move |from| (n, from))
        });
        let batches = batches.map(move |(n, from)| rows.batch(&rows.tasks[n], from));
        let batches = futures_util::stream::iter(batches);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
