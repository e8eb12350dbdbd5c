//! From a table, a projection and filters to a plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use roaring::RoaringBitmap;

use super::barrier::Barrier;
use super::files::Files;
use super::open_rows::OpenRows;
use super::part::PartFile;
use super::prune::{Span, prune};
use super::table::{ResultTable, Rows};
use super::virtuals::{Virtual, VirtualExpr};
use super::visible::{Rule, VisibleExpr};
use crate::question::{Question, Reach};

/// Columns besides the filtered ones from which on reading them only for rows that pass pays off.
const WIDE: usize = 4;
/// Below this share of visible agents, one in so many, the same holds for access.
const NARROW_ACCESS: u64 = 5;

/// One scan of a result table.
pub(super) struct Scan<'a> {
    pub table: &'a ResultTable,
    pub state: &'a dyn Session,
    pub filters: &'a [Expr],
    pub limit: Option<usize>,
}

impl Scan<'_> {
    pub(super) async fn plan(
        self,
        projection: Option<&Vec<usize>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = self.table;
        let reach = table.question.reach().await?;
        let filters = self.physical_filters()?;
        let wanted: Vec<usize> = match projection {
            Some(indices) => indices.clone(),
            None => (0..table.schema().fields().len()).collect(),
        };
        let Rows { parts, open, ended } = table.rows().await?;
        let span = |file: &Arc<PartFile>| Span::from(&file.part.info);
        let parts = prune(parts.clone(), span, &filters, &table.schema());
        let keep = |spans| prune(spans, |span| *span, &filters, &table.schema());
        let mut open = open.clone();
        open.extend(ended.tasks(&table.question, keep).await?);
        let open = prune(open, |tasks| tasks.span(), &filters, &table.schema());
        let mut plans = Vec::with_capacity(2);
        let (parts, rule) = self.rule(parts, reach).await?;
        if !parts.is_empty() {
            let columns = Columns::new(table, &wanted, &rule);
            let pushdown = self.pays_off(&columns, &filters, &rule, reach);
            let scan = self.parquet(&parts, &columns, pushdown, rule.is_empty())?;
            let scan = columns.filtered(scan, rule)?;
            plans.push(columns.finished(scan, &table.question).await?);
        }
        let schema = Arc::new(table.schema().project(&wanted)?);
        if !open.is_empty() {
            let question = &table.question;
            let rows = OpenRows {
                org: question.access.org,
                tasks: open,
                fleet: Arc::clone(question.fleet().await?),
                directory: question.directory().await?.clone(),
                schema: Arc::clone(&schema),
            };
            plans.push(rows.exec()?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(schema))),
            _ => UnionExec::try_new(plans),
        }
    }

    fn physical_filters(&self) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let schema = DFSchema::try_from(Arc::clone(&self.table.schema()))?;
        let physical = |expr: &Expr| self.state.create_physical_expr(expr.clone(), &schema);
        self.filters.iter().map(physical).collect()
    }

    /// What must be checked row by row, and the parts that may pass. Where every row of every part
    /// passes there is nothing to check.
    async fn rule(
        &self,
        mut parts: Vec<Arc<PartFile>>,
        reach: &Reach,
    ) -> Result<(Vec<Arc<PartFile>>, Rule)> {
        let mut rule = Rule::default();
        if let Some(seen) = &reach.agents {
            parts.retain(|file| some_of(seen, file));
            if !parts.iter().all(|file| all_of(seen, file)) {
                rule.agents = Some(Arc::clone(seen));
            }
        }
        if let Some(hunt) = self.table.hunt {
            let only = |file: &Arc<PartFile>| {
                file.part.info.hunt_min == hunt && file.part.info.hunt_max == hunt
            };
            if !parts.iter().all(only) {
                rule.hunt = Some(hunt.0);
            }
        } else {
            let hunts = self.table.question.hunts().await?;
            let gone = hunts.iter().filter(|(_, hunt)| hunt.deleted).map(|(no, _)| no.0);
            let gone: BTreeSet<u64> = gone.collect();
            let concerned = |file: &Arc<PartFile>| {
                let info = &file.part.info;
                gone.range(info.hunt_min.0..=info.hunt_max.0).next().is_some()
            };
            if parts.iter().any(concerned) {
                rule.gone = gone;
            }
        }
        Ok((parts, rule))
    }

    /// Whether to read the other columns only for rows that pass: a few rows of many columns.
    fn pays_off(
        &self,
        columns: &Columns,
        filters: &[Arc<dyn PhysicalExpr>],
        rule: &Rule,
        reach: &Reach,
    ) -> bool {
        let filtered: BTreeSet<String> = filters
            .iter()
            .flat_map(collect_columns)
            .map(|column| column.name().to_owned())
            .collect();
        let fields = columns.read.iter().map(|at| self.table.file_schema.field(*at).name());
        let others = fields.filter(|name| !filtered.contains(*name)).count();
        if others < WIDE {
            return false;
        }
        let narrow =
            rule.agents.as_ref().is_some_and(|seen| seen.len() * NARROW_ACCESS < reach.last.into());
        !filters.is_empty() || rule.hunt.is_some() || narrow
    }

    fn parquet(
        &self,
        parts: &[Arc<PartFile>],
        columns: &Columns,
        pushdown: bool,
        exact: bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = Files {
            state: self.state,
            schema: &self.table.file_schema,
            columns: &self.table.columns,
            read: columns.read.clone(),
            index: pushdown || !self.filters.is_empty(),
            pushdown,
            predicate: None,
            limit: self.limit.filter(|_| exact && self.filters.is_empty()),
        };
        files.exec(parts)
    }
}

/// Whether an agent of the set may be in the part.
fn some_of(seen: &RoaringBitmap, file: &PartFile) -> bool {
    let info = &file.part.info;
    seen.range(info.agent_min.0..=info.agent_max.0).next().is_some()
}

/// Whether nobody but agents of the set can be in the part.
fn all_of(seen: &RoaringBitmap, file: &PartFile) -> bool {
    let info = &file.part.info;
    seen.contains_range(info.agent_min.0..=info.agent_max.0)
}

/// Which columns are wanted, and which must be read for them.
struct Columns {
    /// Columns of the file schema, in the order the scan gives them.
    read: Vec<usize>,
    /// What is wanted, in order.
    wanted: Vec<Wanted>,
    file_schema: SchemaRef,
}

enum Wanted {
    Virtual(Virtual),
    /// Index into the file schema.
    File(usize),
}

impl Columns {
    fn new(table: &ResultTable, wanted: &[usize], rule: &Rule) -> Self {
        let virtuals = Virtual::ALL.len();
        let wanted: Vec<Wanted> = wanted
            .iter()
            .map(|at| match Virtual::ALL.get(*at) {
                Some(column) => Wanted::Virtual(*column),
                None => Wanted::File(at - virtuals),
            })
            .collect();
        let file_schema = Arc::clone(&table.file_schema);
        let index = |name| file_schema.index_of(name).ok();
        let mut read = Vec::new();
        let mut add = |at: Option<usize>| {
            if let Some(at) = at.filter(|at| !read.contains(at)) {
                read.push(at);
            }
        };
        for column in &wanted {
            match column {
                Wanted::File(at) => add(Some(*at)),
                Wanted::Virtual(_) => add(index("agent")),
            }
        }
        if rule.agents.is_some() {
            add(index("agent"));
        }
        if rule.hunt.is_some() || !rule.gone.is_empty() {
            add(index("hunt"));
        }
        Self { read, wanted, file_schema }
    }

    /// A column of the scan's output, by name.
    fn column(&self, name: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let at = self.file_schema.index_of(name)?;
        Ok(self.file(at))
    }

    fn file(&self, at: usize) -> Arc<dyn PhysicalExpr> {
        let place = self.read.iter().position(|read| *read == at).unwrap_or(usize::MAX);
        Arc::new(Column::new(self.file_schema.field(at).name(), place))
    }

    fn filtered(&self, scan: Arc<dyn ExecutionPlan>, rule: Rule) -> Result<Arc<dyn ExecutionPlan>> {
        if rule.is_empty() {
            return Ok(scan);
        }
        // A column that the rule does not ask for is not read; the other stands in for it.
        let agents = if rule.agents.is_some() { "agent" } else { "hunt" };
        let hunts = if rule.agents.is_none() || rule.hunt.is_some() || !rule.gone.is_empty() {
            "hunt"
        } else {
            "agent"
        };
        let (agent, hunt) = (self.column(agents)?, self.column(hunts)?);
        let visible = Arc::new(VisibleExpr { rule: Arc::new(rule), agent, hunt });
        Ok(Arc::new(Barrier(Arc::new(FilterExec::try_new(visible, scan)?))))
    }

    async fn finished(
        &self,
        scan: Arc<dyn ExecutionPlan>,
        question: &Question,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let as_read = self.wanted.len() == self.read.len()
            && self.wanted.iter().zip(&self.read).all(|(wanted, read)| match wanted {
                Wanted::File(at) => at == read,
                Wanted::Virtual(_) => false,
            });
        if as_read {
            return Ok(scan);
        }
        let mut exprs = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let (expr, name): (Arc<dyn PhysicalExpr>, _) = match wanted {
                Wanted::File(at) => (self.file(*at), self.file_schema.field(*at).name().as_str()),
                Wanted::Virtual(column) => {
                    let fleet = Arc::clone(question.fleet().await?);
                    let agent = self.column("agent")?;
                    (Arc::new(VirtualExpr { column: *column, agent, fleet }), column.name())
                }
            };
            exprs.push(ProjectionExpr { expr, alias: name.to_owned() });
        }
        Ok(Arc::new(ProjectionExec::try_new(exprs, scan)?))
    }
}
