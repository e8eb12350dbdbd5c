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
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use muster_results::data_type;
use muster_types::ColumnType;
use tokio::sync::OnceCell;

use crate::Error;
use crate::question::Question;

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
}

impl Listed {
    pub(crate) fn new(question: Arc<Question>, sheet: Sheet) -> Self {
        Self { question, sheet, schema: sheet.schema(), rows: OnceCell::new() }
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

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows.get_or_try_init(|| self.sheet.rows(&self.question)).await?;
        let partitions = [vec![rows.clone()]];
        let exec =
            MemorySourceConfig::try_new_exec(&partitions, self.schema(), projection.cloned())?;
        Ok(exec)
    }
}
