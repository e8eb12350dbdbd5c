//! A result table as DataFusion sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use muster_archive::manifest::{self, PartFilter};
use muster_results::{SYSTEM_COLUMNS, data_type, system_fields};
use muster_types::{ColumnDecl, ColumnType, HuntNo};
use tokio::sync::OnceCell;

use super::open::{self, Ended, OpenTasks};
use super::part::PartFile;
use super::scan::Scan;
use super::virtuals::Virtual;
use crate::Error;
use crate::question::Question;

/// The table of ended tasks, to which those without an end of their own are added.
const COLLECTIONS: &str = "collections";
/// How often `collections` is read anew because tasks ended meanwhile.
const READS_MAX: usize = 4;

/// One table of the manifest, or what one hunt put there.
#[derive(Debug)]
pub(crate) struct ResultTable {
    pub(super) question: Arc<Question>,
    name: String,
    pub(super) hunt: Option<HuntNo>,
    /// Virtual columns, then those of [`ResultTable::file_schema`].
    schema: SchemaRef,
    /// What parts have.
    pub(super) file_schema: SchemaRef,
    /// Its own columns among them.
    pub(super) columns: Vec<ColumnDecl>,
    /// The snapshot: the same rows however often the query names the table.
    rows: OnceCell<Rows>,
}

/// Where the rows of a table are.
#[derive(Debug)]
pub(crate) struct Rows {
    /// All parts that may have some.
    pub parts: Vec<Arc<PartFile>>,
    /// Tasks that have not ended, for `collections`.
    pub open: Vec<Arc<OpenTasks>>,
    /// Hunts that have ended, for `collections`.
    pub ended: Ended,
}

impl ResultTable {
    /// `bytes` are the columns that some parts have as bytes, `hidden` are the hidden columns that the text names; the others are not there at all.
    pub(crate) fn new(
        question: Arc<Question>,
        name: &str,
        hunt: Option<HuntNo>,
        mut columns: Vec<ColumnDecl>,
        bytes: &BTreeSet<String>,
        hidden: &[&str],
    ) -> Self {
        // Ours are computed; rows from before these names were kept free cannot pass for them.
        columns.retain(|column| Virtual::ALL.iter().all(|ours| ours.name() != column.name));
        let is_hidden = |name: &str| SYSTEM_COLUMNS.iter().any(|c| c.hidden && c.name == name);
        let (behind, before): (Vec<Field>, Vec<Field>) =
            system_fields().into_iter().partition(|field| is_hidden(field.name()));
        let own = columns.iter().map(|c| {
            // The engine would take bytes for text where the table says text: not in a dictionary.
            let mixed = c.kind == ColumnType::Text && bytes.contains(&c.name);
            let kind = if mixed { mixed_text() } else { data_type(c.kind) };
            Field::new(&c.name, kind, true)
        });
        let behind = behind.into_iter().filter(|field| hidden.contains(&field.name().as_str()));
        let fields = before.into_iter().chain(own).chain(behind).map(as_view);
        let file_schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let fields = Virtual::ALL.map(|column| Arc::new(column.field()));
        let fields = fields.into_iter().chain(file_schema.fields().iter().cloned());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self {
            question,
            name: name.to_owned(),
            hunt,
            schema,
            file_schema,
            columns,
            rows: OnceCell::new(),
        }
    }

    /// Where the rows are, as of one moment.
    pub(crate) async fn rows(&self) -> Result<&Rows, Error> {
        let read = || async {
            if self.name == COLLECTIONS {
                return self.collections().await;
            }
            let (open, ended) = (Vec::new(), Ended::default());
            Ok::<_, Error>(Rows { parts: self.parts().await?, open, ended })
        };
        self.rows.get_or_try_init(read).await
    }

    /// One transaction ends a task and adds its row, but parts and open tasks are not read in one.
    async fn collections(&self) -> Result<Rows, Error> {
        let mut before = open::progressed(&self.question).await?;
        let mut reads = 0;
        loop {
            reads += 1;
            // Parts first: a task that ends in between is missing at worst, and never there twice.
            let parts = self.parts().await?;
            let open = open::read(&self.question).await?;
            // Live ones before those that have ended: a hunt that ends in between is in one of the lists.
            let ended = Ended::list(&self.question, &open).await?;
            let open = open.into_iter().map(Arc::new).collect();
            let after = open::progressed(&self.question).await?;
            if after == before || reads == READS_MAX {
                return Ok(Rows { parts, open, ended });
            }
            before = after;
        }
    }

    async fn parts(&self) -> Result<Vec<Arc<PartFile>>, Error> {
        let mut filter = PartFilter::default();
        if let Some(hunt) = self.hunt {
            filter.hunt = hunt..=hunt;
        }
        let question = &self.question;
        let parts =
            manifest::parts_of(&question.catalog, question.access.org, &self.name, &filter).await?;
        let file = |part| PartFile::new(part, question.archive.clone());
        Ok(parts.into_iter().map(file).collect())
    }
}

pub(crate) fn mixed_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Text as views: what the reader makes fastest.
pub(crate) fn as_view(field: Field) -> Field {
    match field.data_type() {
        DataType::Utf8 => field.with_data_type(DataType::Utf8View),
        DataType::Binary => field.with_data_type(DataType::BinaryView),
        _ => field,
    }
}

#[async_trait]
impl TableProvider for ResultTable {
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
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Scan { table: self, state, filters, limit }.plan(projection).await
    }
}
