//! Leaving out parts by what the manifest knows of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use muster_results::PartInfo;

use super::part::PartFile;

/// The parts that may have rows for which all of `filters` hold.
pub(crate) fn prune(
    mut parts: Vec<Arc<PartFile>>,
    filters: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Vec<Arc<PartFile>> {
    for filter in filters {
        let predicate = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .try_build(Arc::clone(filter));
        // What cannot be judged prunes nothing.
        let Ok(predicate) = predicate else { continue };
        let Ok(kept) = predicate.prune(&Ranges(&parts)) else { continue };
        let mut kept = kept.into_iter();
        parts.retain(|_| kept.next().unwrap_or(true));
    }
    parts
}

struct Ranges<'a>(&'a [Arc<PartFile>]);

impl Ranges<'_> {
    fn numbers(&self, of: impl Fn(&PartInfo) -> i64) -> Option<ArrayRef> {
        let numbers = self.0.iter().map(|file| of(&file.part.info));
        Some(Arc::new(numbers.collect::<Int64Array>()))
    }

    fn times(&self, of: impl Fn(&PartInfo) -> i64) -> Option<ArrayRef> {
        let times = self.0.iter().map(|file| Some(of(&file.part.info)));
        Some(Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "agent" => self.numbers(|info| i64::from(info.agent_min.0)),
            "hunt" => self.numbers(|info| number(info.hunt_min.0)),
            "received_time" => self.times(|info| info.received_min.0),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "agent" => self.numbers(|info| i64::from(info.agent_max.0)),
            "hunt" => self.numbers(|info| number(info.hunt_max.0)),
            "received_time" => self.times(|info| info.received_max.0),
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let never = matches!(column.name(), "agent" | "received_time");
        never.then(|| Arc::new(UInt64Array::from(vec![0; self.0.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.0.iter().map(|file| file.part.info.row_count);
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(
        &self,
        _: &Column,
        _: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}
