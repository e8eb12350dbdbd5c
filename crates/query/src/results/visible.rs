//! The asker's reach as a filter in the scan.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use roaring::RoaringBitmap;

/// Which rows may be shown. A row must pass all of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rule {
    /// Rows of these agents only.
    pub agents: Option<Arc<RoaringBitmap>>,
    /// Rows of this hunt only.
    pub hunt: Option<u64>,
    /// No rows of these hunts.
    pub gone: BTreeSet<u64>,
}

impl Rule {
    pub(crate) fn is_empty(&self) -> bool {
        self.agents.is_none() && self.hunt.is_none() && self.gone.is_empty()
    }

    fn agent(&self, agent: i64) -> bool {
        let seen = |set: &Arc<RoaringBitmap>| u32::try_from(agent).is_ok_and(|no| set.contains(no));
        self.agents.as_ref().is_none_or(seen)
    }

    /// 0 is no hunt.
    fn hunt(&self, hunt: u64) -> bool {
        self.hunt.is_none_or(|only| only == hunt) && !self.gone.contains(&hunt)
    }
}

/// A [`Rule`] as an expression over `agent` and `hunt`.
#[derive(Clone, Debug)]
pub(crate) struct VisibleExpr {
    pub rule: Arc<Rule>,
    pub agent: Arc<dyn PhysicalExpr>,
    pub hunt: Arc<dyn PhysicalExpr>,
}

impl VisibleExpr {
    fn column(of: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<arrow::array::ArrayRef> {
        of.evaluate(batch)?.into_array(batch.num_rows())
    }
}

impl PartialEq for VisibleExpr {
    fn eq(&self, other: &Self) -> bool {
        self.rule == other.rule && self.agent.eq(&other.agent) && self.hunt.eq(&other.hunt)
    }
}

impl Eq for VisibleExpr {}

impl Hash for VisibleExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.agent.hash(state);
        self.hunt.hash(state);
    }
}

impl fmt::Display for VisibleExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "visible({}, {})", self.agent, self.hunt)
    }
}

/// Values in runs: the answer for the previous value is kept.
fn by_runs<T: PartialEq + Copy>(
    rows: usize,
    value: impl Fn(usize) -> T,
    judge: impl Fn(T) -> bool,
) -> BooleanBuffer {
    let mut last: Option<(T, bool)> = None;
    BooleanBuffer::collect_bool(rows, |row| {
        let value = value(row);
        match last {
            Some((before, answer)) if before == value => answer,
            _ => {
                let answer = judge(value);
                last = Some((value, answer));
                answer
            }
        }
    })
}

impl PhysicalExpr for VisibleExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let mut kept: Option<BooleanBuffer> = None;
        if self.rule.agents.is_some() {
            let agents = Self::column(&self.agent, batch)?;
            let agents = agents.as_primitive::<Int64Type>();
            // A row without an agent belongs to nobody whom the asker sees.
            let agent = |row| if agents.is_valid(row) { agents.value(row) } else { -1 };
            kept = Some(by_runs(rows, agent, |agent| self.rule.agent(agent)));
        }
        if self.rule.hunt.is_some() || !self.rule.gone.is_empty() {
            let hunts = Self::column(&self.hunt, batch)?;
            let hunts = hunts.as_primitive::<Int64Type>();
            let hunt = |row| if hunts.is_valid(row) { hunts.value(row).unsigned_abs() } else { 0 };
            let by_hunt = by_runs(rows, hunt, |hunt| self.rule.hunt(hunt));
            kept = Some(match kept {
                Some(kept) => &kept & &by_hunt,
                None => by_hunt,
            });
        }
        let kept = kept.unwrap_or_else(|| BooleanBuffer::new_set(rows));
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(kept, None))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.agent, &self.hunt]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [agent, hunt] = <[_; 2]>::try_from(children).map_err(|_| {
            datafusion::common::internal_datafusion_err!("visible() has two arguments")
        })?;
        Ok(Arc::new(Self { rule: Arc::clone(&self.rule), agent, hunt }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
