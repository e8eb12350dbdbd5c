//! Which parts of a current table a question concerns.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{Expr, Operator};
use muster_results::{MIXED, bucket};
use muster_types::AgentNo;
use roaring::RoaringBitmap;

use super::CurrentTable;
use crate::results::{PartFile, Span, prune};

/// The parts that may have rows of the agents asked for.
pub(super) async fn parts(
    table: &CurrentTable,
    state: &dyn Session,
    filters: &[Expr],
) -> Result<Vec<Arc<PartFile>>> {
    let schema = DFSchema::try_from(Arc::clone(&table.schema))?;
    let made = |expr: &Expr| state.create_physical_expr(expr.clone(), &schema);
    let physical = filters.iter().map(made).collect::<Result<Vec<_>>>()?;
    let span = |file: &Arc<PartFile>| Span::from(&file.part.info);
    let mut parts = prune(table.parts().await?.clone(), span, &physical, &table.schema());
    if let Some(buckets) = buckets(table, filters).await? {
        parts.retain(|file| {
            let bucket = file.part.info.day;
            bucket == MIXED || buckets.contains(&bucket)
        });
    }
    Ok(parts)
}

/// The buckets of the agents or endpoints that are asked for by number.
async fn buckets(table: &CurrentTable, filters: &[Expr]) -> Result<Option<BTreeSet<i64>>> {
    let mut buckets: Option<BTreeSet<i64>> = None;
    for filter in filters {
        let Some((column, number)) = equals(filter) else { continue };
        let agents = match column {
            "agent" => u32::try_from(number).into_iter().collect(),
            "endpoint" => table.question.fleet().await?.agents_of(number),
            _ => continue,
        };
        let of: BTreeSet<i64> = agents.into_iter().map(|no| bucket(AgentNo(no))).collect();
        buckets = Some(buckets.map_or_else(|| of.clone(), |known| &known & &of));
    }
    Ok(buckets)
}

/// `column = number`, either way round.
fn equals(filter: &Expr) -> Option<(&str, i64)> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    if binary.op != Operator::Eq {
        return None;
    }
    match (&*binary.left, &*binary.right) {
        (Expr::Column(column), Expr::Literal(ScalarValue::Int64(Some(number)), _))
        | (Expr::Literal(ScalarValue::Int64(Some(number)), _), Expr::Column(column)) => {
            Some((column.name(), *number))
        }
        _ => None,
    }
}

/// Whether an agent of the set may be in the part.
pub(super) fn some_of(seen: &RoaringBitmap, file: &PartFile) -> bool {
    let info = &file.part.info;
    seen.range(info.agent_min.0..=info.agent_max.0).next().is_some()
}

/// Whether nobody but agents of the set can be in the part.
pub(super) fn all_of(seen: &RoaringBitmap, file: &PartFile) -> bool {
    let info = &file.part.info;
    seen.contains_range(info.agent_min.0..=info.agent_max.0)
}
