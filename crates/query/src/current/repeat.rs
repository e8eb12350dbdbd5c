//! Rows as often as they are there.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures_util::StreamExt;

/// Most copies of one row in one batch. Endpoints give every row once, or a few times.
const COPIES_MAX: i64 = 1 << 20;

/// Takes the last column of its input for how often each row is there, and gives the others so often.
#[derive(Debug)]
pub(super) struct Repeat {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl Repeat {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let columns = input.schema().fields().len();
        let kept: Vec<usize> = (0..columns.saturating_sub(1)).collect();
        let schema = Arc::new(input.schema().project(&kept)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self { input, schema, properties: Arc::new(properties) })
    }
}

fn repeated(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let (counts, columns) = batch
        .columns()
        .split_last()
        .ok_or_else(|| internal_datafusion_err!("no column of counts"))?;
    let counts = counts.as_primitive::<Int64Type>().values();
    let options = RecordBatchOptions::new();
    if counts.iter().all(|count| *count == 1) {
        let options = options.with_row_count(Some(batch.num_rows()));
        let columns = columns.to_vec();
        return Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?);
    }
    let copies = |(row, count): (usize, &i64)| {
        std::iter::repeat_n(row as u32, (*count).clamp(0, COPIES_MAX) as usize)
    };
    let places: UInt32Array = counts.iter().enumerate().flat_map(copies).collect::<Vec<_>>().into();
    let options = options.with_row_count(Some(places.len()));
    let columns = columns.iter().map(|column| take(column, &places, None));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

impl DisplayAs for Repeat {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeat")
    }
}

impl ExecutionPlan for Repeat {
    fn name(&self) -> &'static str {
        "Repeat"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| internal_datafusion_err!("no input"))?;
        Ok(Arc::new(Self::new(input)?))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let input = self.input.execute(partition, context)?;
        let rows = input.map(move |batch| repeated(&batch?, &schema));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }
}
