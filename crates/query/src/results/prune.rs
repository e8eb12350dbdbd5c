//! Leaving out what cannot have rows that are asked for.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use muster_results::PartInfo;
use muster_types::{AgentNo, HuntNo, Outcome, Timestamp};

/// What is known of some rows: the least and the greatest value of columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub agent: (AgentNo, AgentNo),
    /// 0 for no hunt.
    pub hunt: (HuntNo, HuntNo),
    pub received: (Timestamp, Timestamp),
    pub rows: u64,
    /// Of `collections`: one of these, if it is known.
    pub outcomes: Option<&'static [Outcome]>,
}

impl From<&PartInfo> for Span {
    fn from(info: &PartInfo) -> Self {
        Self {
            agent: (info.agent_min, info.agent_max),
            hunt: (info.hunt_min, info.hunt_max),
            received: (info.received_min, info.received_max),
            rows: info.row_count,
            outcomes: None,
        }
    }
}

/// The items that may have rows for which all of `filters` hold.
pub(crate) fn prune<T>(
    mut items: Vec<T>,
    span: impl Fn(&T) -> Span,
    filters: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
) -> Vec<T> {
    for filter in filters {
        let predicate = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .try_build(Arc::clone(filter));
        // What cannot be judged prunes nothing.
        let Ok(predicate) = predicate else { continue };
        let spans = items.iter().map(&span).collect();
        let Ok(kept) = predicate.prune(&Spans(spans)) else { continue };
        let mut kept = kept.into_iter();
        items.retain(|_| kept.next().unwrap_or(true));
    }
    items
}

struct Spans(Vec<Span>);

impl Spans {
    fn numbers(&self, of: impl Fn(&Span) -> i64) -> Option<ArrayRef> {
        Some(Arc::new(Int64Array::from_iter_values(self.0.iter().map(of))))
    }

    fn times(&self, of: impl Fn(&Span) -> Timestamp) -> Option<ArrayRef> {
        let times = TimestampMicrosecondArray::from_iter_values(self.0.iter().map(|s| of(s).0));
        Some(Arc::new(times.with_timezone("UTC")))
    }
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl PruningStatistics for Spans {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "agent" => self.numbers(|span| span.agent.0.0.into()),
            "hunt" => self.numbers(|span| number(span.hunt.0.0)),
            "received_time" => self.times(|span| span.received.0),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "agent" => self.numbers(|span| span.agent.1.0.into()),
            "hunt" => self.numbers(|span| number(span.hunt.1.0)),
            "received_time" => self.times(|span| span.received.1),
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
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|span| span.rows))))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name() != "outcome" {
            return None;
        }
        let words: Vec<&str> = values.iter().filter_map(|value| value.try_as_str()?).collect();
        let possible = |outcome: &Outcome| words.contains(&outcome.as_str());
        let none_of = |span: &Span| span.outcomes.is_some_and(|all| !all.iter().any(possible));
        Some(self.0.iter().map(|span| none_of(span).then_some(false)).collect())
    }
}
