//! Columns that no part holds: the endpoint of a row's agent, as it is known now.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;

use super::Fleet;

/// A column computed from `agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Virtual {
    /// The endpoint's name.
    Name,
    /// The endpoint's number.
    Number,
}

impl Virtual {
    /// In the order they stand, before all other columns.
    pub(crate) const ALL: [Self; 2] = [Self::Name, Self::Number];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Name => "endpoint_name",
            Self::Number => "endpoint",
        }
    }

    pub(crate) fn kind(self) -> DataType {
        match self {
            Self::Name => DataType::Utf8View,
            Self::Number => DataType::Int64,
        }
    }

    pub(crate) fn field(self) -> Field {
        Field::new(self.name(), self.kind(), true)
    }

    /// The column for these agents.
    pub(crate) fn of(self, fleet: &Fleet, agents: &dyn Array) -> Result<ArrayRef> {
        let agents = agents.as_primitive::<Int64Type>();
        let slots: UInt32Array = agents.iter().map(|agent| fleet.slot(agent?)).collect();
        let values: &dyn Array = match self {
            Self::Name => fleet.names(),
            Self::Number => fleet.numbers(),
        };
        Ok(take(values, &slots, None)?)
    }
}

/// [`Virtual`] as an expression over `agent`.
#[derive(Clone, Debug)]
pub(crate) struct VirtualExpr {
    pub column: Virtual,
    pub agent: Arc<dyn PhysicalExpr>,
    pub fleet: Arc<Fleet>,
}

impl PartialEq for VirtualExpr {
    fn eq(&self, other: &Self) -> bool {
        self.column == other.column
            && self.agent.eq(&other.agent)
            && Arc::ptr_eq(&self.fleet, &other.fleet)
    }
}

impl Eq for VirtualExpr {}

impl Hash for VirtualExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.agent.hash(state);
    }
}

impl fmt::Display for VirtualExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.column.name(), self.agent)
    }
}

impl PhysicalExpr for VirtualExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.column.kind())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let agents = self.agent.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(self.column.of(&self.fleet, &agents)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.agent]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let agent = children.swap_remove(0);
        Ok(Arc::new(Self { agent, ..(*self).clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
