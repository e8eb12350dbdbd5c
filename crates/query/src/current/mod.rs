//! Current tables: what there is now, by the last word of each scheduled source.
//!
//! The parts hold steps: rows that came and went, and marks that say which generation of an agent's
//! source counts ([`muster_results::merge_current`]). Marks are read when the query is planned; rows are
//! merged while they are read. What was merged into its base and has no step beside it, which is almost all of it,
//! passes through; the rest is summed up. Equal rows have equal values, so what the asker filters by is
//! asked of the parts.

mod expr;
mod marks;
mod plan;
mod repeat;
mod standing;
mod which;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use muster_archive::manifest::{self, PartFilter};
use muster_results::{RowClass, SYSTEM_COLUMNS, current_fields, data_type, system_fields};
use muster_types::{ColumnDecl, ColumnType};
use tokio::sync::OnceCell;

use crate::Error;
use crate::question::Question;
use crate::results::{PartFile, Virtual, as_view, mixed_text};

/// What the name of every current table ends in, and no other table's should.
pub(crate) const SUFFIX: &str = "_current";

/// Columns that no part holds, behind a table's own.
const COMPUTED: [(&str, Wanted); 3] = [
    ("first_seen", Wanted::FirstSeen),
    ("last_seen", Wanted::LastSeen),
    ("complete", Wanted::Complete),
];

/// A column that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Virtual(Virtual),
    /// Index into [`CurrentTable::file_schema`].
    File(usize),
    FirstSeen,
    LastSeen,
    Complete,
    /// Other tables have it, this one never.
    Null,
}

/// A current table as the engine sees it.
#[derive(Debug)]
pub(crate) struct CurrentTable {
    question: Arc<Question>,
    name: String,
    schema: SchemaRef,
    /// What stands behind each column of the schema.
    wanted: Vec<Wanted>,
    /// What parts have.
    file_schema: SchemaRef,
    /// Its own columns among them.
    columns: Vec<ColumnDecl>,
    /// The snapshot: the same rows however often the query names the table.
    parts: OnceCell<Vec<Arc<PartFile>>>,
}

impl CurrentTable {
    /// `bytes` are the columns that some parts have as bytes, `hidden` are the hidden columns that the text names.
    pub(crate) fn new(
        question: Arc<Question>,
        name: &str,
        columns: Vec<ColumnDecl>,
        bytes: &BTreeSet<String>,
        hidden: &[&str],
    ) -> Self {
        let (before, behind) = current_fields();
        let own = columns.iter().map(|c| {
            let mixed = c.kind == ColumnType::Text && bytes.contains(&c.name);
            let kind = if mixed { mixed_text() } else { data_type(c.kind) };
            Field::new(&c.name, kind, true)
        });
        let fields = before.into_iter().chain(own).chain(behind).map(as_view);
        let file_schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut shown: Vec<(Field, Wanted)> =
            Virtual::ALL.map(|column| (column.field(), Wanted::Virtual(column))).to_vec();
        let ours = |name: &str| {
            COMPUTED.iter().any(|(known, _)| *known == name)
                || Virtual::ALL.iter().any(|column| column.name() == name)
        };
        let file = |name: &str| {
            let at = file_schema.index_of(name).ok()?;
            Some((file_schema.field(at).clone(), Wanted::File(at)))
        };
        let named = columns.iter().map(|column| column.name.as_str()).filter(|name| !ours(name));
        shown.extend(["agent", "agent_kind"].into_iter().chain(named).filter_map(file));
        let time = file_schema.field(2).data_type().clone();
        for (name, wanted) in COMPUTED {
            let kind = if wanted == Wanted::Complete { DataType::Boolean } else { time.clone() };
            shown.push((Field::new(name, kind, true), wanted));
        }
        for (field, column) in system_fields().into_iter().zip(SYSTEM_COLUMNS) {
            if column.hidden && hidden.contains(&column.name) {
                let stored = file(column.name);
                let none = || (as_view(field).with_nullable(true), Wanted::Null);
                shown.push(stored.unwrap_or_else(none));
            }
        }
        let (fields, wanted): (Vec<Field>, Vec<Wanted>) = shown.into_iter().unzip();
        Self {
            question,
            name: name.to_owned(),
            schema: Arc::new(Schema::new(fields)),
            wanted,
            file_schema,
            columns,
            parts: OnceCell::new(),
        }
    }

    /// Where the rows are, as of one moment.
    pub(crate) async fn parts(&self) -> Result<&Vec<Arc<PartFile>>, Error> {
        let question = &self.question;
        let read = || async {
            let (org, all) = (question.access.org, PartFilter::default());
            let parts = manifest::parts_of(&question.catalog, org, &self.name, &all).await?;
            let parts = parts.into_iter().filter(|part| part.info.class == RowClass::Current);
            let file = |part| PartFile::new(part, question.archive.clone());
            Ok::<_, Error>(parts.map(file).collect())
        };
        self.parts.get_or_try_init(read).await
    }
}

#[async_trait]
impl TableProvider for CurrentTable {
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
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.wanted.len()).collect();
        let projection = projection.map_or_else(all, Clone::clone);
        plan::Plan::new(self, state, filters, &projection).make().await
    }
}
