//! Expressions over how a row's source stands.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int64Builder, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;

use super::standing::{Standing, Standings};

/// What is asked. The arguments are agent and source, then generation and count where they are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// Of generation and count: is it a row that counts, and the base all there is of its source?
    Settled,
    /// Of generation and count: is it a row of a source with steps?
    Stepped,
    /// Of generation and count: how much it adds to the sum.
    Count,
    /// Of count and time: when it came; NULL when it went.
    Came,
    /// When the source was last seen.
    LastSeen,
    /// Whether nothing of it is missing.
    Complete,
}

/// [`What`] as an expression.
#[derive(Clone, Debug)]
pub(super) struct StateExpr {
    pub what: What,
    pub args: Vec<Arc<dyn PhysicalExpr>>,
    pub standings: Arc<Standings>,
}

impl PartialEq for StateExpr {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
            && self.args == other.args
            && Arc::ptr_eq(&self.standings, &other.standings)
    }
}

impl Eq for StateExpr {}

impl Hash for StateExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what.hash(state);
        self.args.hash(state);
    }
}

impl fmt::Display for StateExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl StateExpr {
    fn argument(&self, at: usize, batch: &RecordBatch, kind: &DataType) -> Result<ArrayRef> {
        let argument =
            self.args.get(at).ok_or_else(|| internal_datafusion_err!("too few arguments"))?;
        let array = argument.evaluate(batch)?.into_array(batch.num_rows())?;
        if array.data_type() == kind { Ok(array) } else { Ok(cast(&array, kind)?) }
    }

    fn each(&self, batch: &RecordBatch, each: impl FnMut(usize, Standing)) -> Result<()> {
        let agents = self.argument(0, batch, &DataType::Int64)?;
        let sources = self.argument(1, batch, &DataType::Utf8View)?;
        let (agents, sources) = (agents.as_primitive::<Int64Type>(), sources.as_string_view());
        self.standings.each(agents, sources, each);
        Ok(())
    }

    fn came(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let counts = self.argument(0, batch, &DataType::Int64)?;
        let times = self.argument(1, batch, &time())?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let counts = counts.as_primitive::<Int64Type>().values().iter();
        let came = counts.zip(times.values()).map(|(count, at)| (*count > 0).then_some(*at));
        Ok(Arc::new(came.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
    }

    fn of_rows(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let rows = batch.num_rows();
        let generations = self.argument(2, batch, &DataType::Int64)?;
        let counts = self.argument(3, batch, &DataType::Int64)?;
        let generation = generations.as_primitive::<Int64Type>().values();
        let count = counts.as_primitive::<Int64Type>().values();
        if self.what == What::Count {
            let mut out = Int64Builder::with_capacity(rows);
            self.each(batch, |row, standing| {
                let counts = generation[row] == standing.generation;
                out.append_value(if counts { count[row] } else { 0 });
            })?;
            return Ok(Arc::new(out.finish()));
        }
        let settled = self.what == What::Settled;
        let mut out = BooleanBuilder::with_capacity(rows);
        self.each(batch, |row, standing| {
            out.append_value(match settled {
                true => {
                    count[row] > 0
                        && generation[row] == standing.generation
                        && !standing.has_steps()
                }
                false => count[row] != 0 && standing.has_steps(),
            });
        })?;
        Ok(Arc::new(out.finish()))
    }
}

impl PhysicalExpr for StateExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(match self.what {
            What::Settled | What::Stepped | What::Complete => DataType::Boolean,
            What::Count => DataType::Int64,
            What::Came | What::LastSeen => time(),
        })
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let array: ArrayRef = match self.what {
            What::Settled | What::Stepped | What::Count => self.of_rows(batch)?,
            What::Came => self.came(batch)?,
            What::LastSeen => {
                let mut out = Int64Builder::with_capacity(rows);
                self.each(batch, |_, standing| out.append_value(standing.seen))?;
                cast(&out.finish(), &time())?
            }
            What::Complete => {
                let mut out = BooleanBuilder::with_capacity(rows);
                self.each(batch, |_, standing| out.append_value(!standing.gap))?;
                Arc::new(out.finish())
            }
        };
        Ok(ColumnarValue::Array(array))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        args: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let (what, standings) = (self.what, Arc::clone(&self.standings));
        Ok(Arc::new(Self { what, args, standings }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
