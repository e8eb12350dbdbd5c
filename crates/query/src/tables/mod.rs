//! Tables of the catalog, cut to what the asker may see.

mod agents;
mod column;
mod endpoints;
mod hunts;
mod labels;
mod uploads;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use muster_results::data_type;
use muster_types::{AgentNo, ColumnType, HuntNo, Timestamp};
use tokio::sync::{Mutex, OnceCell};

use crate::Error;
use crate::question::Question;
use crate::results::{Span, prune};

pub(crate) use hunts::STATEMENTS;
pub(crate) use uploads::STATEMENTS as UPLOAD_STATEMENTS;

/// Names and types of columns.
type Columns = &'static [(&'static str, ColumnType)];

/// Tables that the fold writes, with the columns they have from the first day.
pub(crate) const SYSTEM_TABLES: [(&str, Columns); 5] = [
    (
        "collections",
        &[
            ("outcome", ColumnType::Text),
            ("rows", ColumnType::Int),
            ("bytes", ColumnType::Int),
            ("started_time", ColumnType::Time),
            ("finished_time", ColumnType::Time),
            ("elapsed_us", ColumnType::Int),
            ("message", ColumnType::Text),
            ("status", ColumnType::Int),
            ("user_us", ColumnType::Int),
            ("system_us", ColumnType::Int),
            ("memory_bytes", ColumnType::Int),
        ],
    ),
    ("errors", &[("source", ColumnType::Text), ("message", ColumnType::Text)]),
    ("agent_log", &[("level", ColumnType::Text), ("message", ColumnType::Text)]),
    ("unchanged", &[("source", ColumnType::Text), ("since_time", ColumnType::Time)]),
    (
        "osquery_other",
        &[("name", ColumnType::Text), ("action", ColumnType::Text), ("columns", ColumnType::Json)],
    ),
];

/// Another name for the present state of all endpoints' software.
pub(crate) const SOFTWARE: (&str, &str) = ("software", "inventory_software_current");

/// A table made of rows of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sheet {
    Agents,
    Endpoints,
    Hunts,
    Labels,
    Uploads,
}

impl Sheet {
    pub(crate) const ALL: [Self; 5] =
        [Self::Agents, Self::Endpoints, Self::Hunts, Self::Labels, Self::Uploads];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Endpoints => "endpoints",
            Self::Hunts => "hunts",
            Self::Labels => "labels",
            Self::Uploads => "uploads",
        }
    }

    fn columns(self) -> &'static [(&'static str, ColumnType)] {
        match self {
            Self::Agents => agents::COLUMNS,
            Self::Endpoints => endpoints::COLUMNS,
            Self::Hunts => hunts::COLUMNS,
            Self::Labels => labels::COLUMNS,
            Self::Uploads => uploads::COLUMNS,
        }
    }

    fn schema(self) -> SchemaRef {
        let field = |(name, kind): &(&str, ColumnType)| Field::new(*name, data_type(*kind), true);
        Arc::new(Schema::new(self.columns().iter().map(field).collect::<Vec<_>>()))
    }

    async fn rows(self, question: &Question) -> Result<RecordBatch, Error> {
        let arrays = match self {
            Self::Agents => agents::rows(question).await?,
            Self::Endpoints => endpoints::rows(question).await?,
            Self::Hunts => hunts::rows(question).await?,
            Self::Labels => labels::rows(question).await?,
            Self::Uploads => uploads::rows(question).await?,
        };
        let batch = RecordBatch::try_new(self.schema(), arrays);
        batch.map_err(|error| Error::Engine(Box::new(error.into())))
    }
}

/// A [`Sheet`] as DataFusion sees it; read once per query.
#[derive(Debug)]
pub(crate) struct Listed {
    question: Arc<Question>,
    sheet: Sheet,
    schema: SchemaRef,
    rows: OnceCell<RecordBatch>,
    counts: Mutex<hunts::Counts>,
}

impl Listed {
    pub(crate) fn new(question: Arc<Question>, sheet: Sheet) -> Self {
        let (rows, counts) = (OnceCell::new(), Mutex::default());
        Self { question, sheet, schema: sheet.schema(), rows, counts }
    }

    /// The hunts that may pass, with their counts.
    async fn counted(
        &self,
        rows: &RecordBatch,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<RecordBatch> {
        let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
        let physical = |expr: &Expr| state.create_physical_expr(expr.clone(), &schema);
        let filters = filters.iter().map(physical).collect::<Result<Vec<_>>>()?;
        let span = |hunt: &HuntNo| Span {
            agent: (AgentNo(0), AgentNo(u32::MAX)),
            hunt: (*hunt, *hunt),
            received: (Timestamp(i64::MIN), Timestamp(i64::MAX)),
            rows: 1,
            outcomes: None,
        };
        let keep = |hunts| prune(hunts, span, &filters, &self.schema);
        let mut counts = self.counts.lock().await;
        Ok(hunts::counted(&self.question, rows, keep, &mut counts).await?)
    }
}

#[async_trait]
impl TableProvider for Listed {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let used = match self.sheet {
            Sheet::Hunts => TableProviderFilterPushDown::Inexact,
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(vec![used; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.get_or_try_init(|| self.sheet.rows(&self.question)).await?;
        let rows = match self.sheet == Sheet::Hunts && hunts::are_counted(projection) {
            true => self.counted(rows, state, filters).await?,
            false => rows.clone(),
        };
        let partitions = [vec![rows]];
        let exec =
            MemorySourceConfig::try_new_exec(&partitions, self.schema(), projection.cloned())?;
        Ok(exec)
    }
}
