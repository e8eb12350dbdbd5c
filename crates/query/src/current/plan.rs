//! From a current table, a projection and filters to a plan.
//!
//! What the asker wrote and can fail is asked of rows only that are there: see [`Barrier`].

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::min_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr_common::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;

use super::expr::{StateExpr, What};
use super::marks::{self, Sorted};
use super::repeat::Repeat;
use super::standing::Standings;
use super::{CurrentTable, Wanted, which};
use crate::results::{Barrier, Files, PartFile, Rule, VirtualExpr, VisibleExpr};

/// Columns besides those every scan reads from which on reading them only for rows that pass pays off.
const WIDE: usize = 4;

type Exec = Arc<dyn ExecutionPlan>;
type Physical = Arc<dyn PhysicalExpr>;

/// One scan of a current table.
pub(super) struct Plan<'a> {
    table: &'a CurrentTable,
    state: &'a dyn Session,
    filters: &'a [Expr],
    projection: &'a [usize],
    wanted: Vec<Wanted>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        table: &'a CurrentTable,
        state: &'a dyn Session,
        filters: &'a [Expr],
        projection: &'a [usize],
    ) -> Self {
        let wanted = projection.iter().map(|at| table.wanted[*at]).collect();
        Self { table, state, filters, projection, wanted }
    }

    pub(super) async fn make(self) -> Result<Exec> {
        let table = self.table;
        let reach = table.question.reach().await?;
        let schema = Arc::new(table.schema.project(self.projection)?);
        let mut parts = which::parts(table, self.state, self.filters).await?;
        let mut rule = Rule::default();
        if let Some(seen) = &reach.agents {
            parts.retain(|file| which::some_of(seen, file));
            if !parts.iter().all(|file| which::all_of(seen, file)) {
                rule.agents = Some(Arc::clone(seen));
            }
        }
        if parts.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let rule = Arc::new(rule);
        let parts = Sorted::new(parts);
        let standings = Arc::new(marks::read(table, self.state, &parts).await?);
        let mut plans = Vec::with_capacity(2);
        if !parts.bases.is_empty() {
            let rows = self.settled(&parts.bases, &rule, &standings)?;
            plans.push(self.finished(rows, &standings).await?);
        }
        if standings.any_steps() {
            let all: Vec<_> = parts.bases.into_iter().chain(parts.steps).collect();
            let rows = self.stepped(&all, &rule, &standings)?;
            plans.push(self.finished(rows, &standings).await?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(schema))),
            _ => Ok(Arc::new(Repeat::new(UnionExec::try_new(plans)?)?)),
        }
    }

    /// Rows of sources that have all of them in their base.
    fn settled(
        &self,
        parts: &[Arc<PartFile>],
        rule: &Arc<Rule>,
        all: &Arc<Standings>,
    ) -> Result<Exec> {
        let file = &self.table.file_schema;
        let mut read = ["agent", "_source", "_generation", "_count"]
            .map(|name| file.index_of(name))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let always = read.len();
        let received = file.index_of("received_time")?;
        for wanted in &self.wanted {
            let at = match wanted {
                Wanted::File(at) => *at,
                Wanted::FirstSeen => received,
                _ => continue,
            };
            if !read.contains(&at) {
                read.push(at);
            }
        }
        let pushdown = !self.filters.is_empty() && read.len() - always >= WIDE;
        let scan = self.read(parts, read, pushdown)?;
        let scan = visible(scan, rule)?;
        let settled = state(What::Settled, &scan.schema(), &STATE, all)?;
        let rows: Exec = Arc::new(Barrier(Arc::new(FilterExec::try_new(settled, scan)?)));
        let count = column(&rows.schema(), "_count")?;
        let as_number = datafusion::physical_expr::expressions::cast(
            count,
            &rows.schema(),
            arrow::datatypes::DataType::Int64,
        )?;
        let mut exprs = Vec::new();
        for (at, field) in rows.schema().fields().iter().enumerate() {
            let same: Physical = Arc::new(Column::new(field.name(), at));
            let expr = if field.name() == "_count" { Arc::clone(&as_number) } else { same };
            exprs.push(ProjectionExpr { expr, alias: field.name().clone() });
        }
        Ok(Arc::new(ProjectionExec::try_new(exprs, rows)?))
    }

    /// Rows of sources that have steps, summed up.
    fn stepped(
        &self,
        parts: &[Arc<PartFile>],
        rule: &Arc<Rule>,
        all: &Arc<Standings>,
    ) -> Result<Exec> {
        let file = &self.table.file_schema;
        let gap = file.index_of("_gap")?;
        let read = (0..file.fields().len()).filter(|at| *at != gap).collect();
        let scan = visible(self.read(parts, read, false)?, rule)?;
        let schema = scan.schema();
        let stepped = state(What::Stepped, &schema, &STATE, all)?;
        let rows: Exec = Arc::new(FilterExec::try_new(stepped, scan)?);
        let values = |name: &&str| !["received_time", "_generation", "_count"].contains(name);
        let names = schema.fields().iter().map(|field| field.name().as_str()).filter(values);
        let group = names.map(|name| Ok((column(&schema, name)?, name.to_owned())));
        let group = group.collect::<Result<Vec<_>>>()?;
        let count = state(What::Count, &schema, &STATE, all)?;
        let came = state(What::Came, &schema, &["_count", "received_time"], all)?;
        let sum = |function, of, name: &str| {
            let built = AggregateExprBuilder::new(function, vec![of])
                .schema(Arc::clone(&schema))
                .alias(name)
                .build();
            built.map(Arc::new)
        };
        let sums = vec![sum(sum_udaf(), count, "_count")?, sum(min_udaf(), came, "received_time")?];
        let mode = AggregateMode::SinglePartitioned;
        let group = PhysicalGroupBy::new_single(group);
        let filters = vec![None; sums.len()];
        let rows = AggregateExec::try_new(mode, group, sums, filters, rows, schema)?;
        let rows: Exec = Arc::new(rows);
        let count = column(&rows.schema(), "_count")?;
        let none = Arc::new(Literal::new(ScalarValue::Int64(Some(0))));
        let there = Arc::new(BinaryExpr::new(count, Operator::Gt, none));
        Ok(Arc::new(Barrier(Arc::new(FilterExec::try_new(there, rows)?))))
    }

    fn read(&self, parts: &[Arc<PartFile>], read: Vec<usize>, pushdown: bool) -> Result<Exec> {
        let files = Files {
            state: self.state,
            schema: &self.table.file_schema,
            columns: &self.table.columns,
            read,
            index: true,
            pushdown,
            predicate: None,
            limit: None,
        };
        files.exec(parts)
    }

    /// What is wanted, and behind it how often each row is there.
    async fn finished(&self, rows: Exec, all: &Arc<Standings>) -> Result<Exec> {
        let schema = rows.schema();
        let mut exprs = Vec::with_capacity(self.wanted.len() + 1);
        for (wanted, at) in self.wanted.iter().zip(self.projection) {
            let field = self.table.schema.field(*at);
            let expr: Physical = match wanted {
                Wanted::Virtual(virtual_column) => Arc::new(VirtualExpr {
                    column: *virtual_column,
                    agent: column(&schema, "agent")?,
                    fleet: Arc::clone(self.table.question.fleet().await?),
                }),
                Wanted::File(at) => column(&schema, self.table.file_schema.field(*at).name())?,
                Wanted::FirstSeen => column(&schema, "received_time")?,
                Wanted::LastSeen => state(What::LastSeen, &schema, &STATE[..2], all)?,
                Wanted::Complete => state(What::Complete, &schema, &STATE[..2], all)?,
                Wanted::Null => Arc::new(Literal::new(ScalarValue::try_from(field.data_type())?)),
            };
            exprs.push(ProjectionExpr { expr, alias: field.name().clone() });
        }
        let count = column(&schema, "_count")?;
        exprs.push(ProjectionExpr { expr: count, alias: "_count".to_owned() });
        Ok(Arc::new(ProjectionExec::try_new(exprs, rows)?))
    }
}

/// The arguments of most questions about a source's state.
const STATE: [&str; 4] = ["agent", "_source", "_generation", "_count"];

fn column(schema: &Schema, name: &str) -> Result<Physical> {
    Ok(Arc::new(Column::new_with_schema(name, schema)?))
}

fn state(what: What, schema: &Schema, args: &[&str], all: &Arc<Standings>) -> Result<Physical> {
    let args = args.iter().map(|name| column(schema, name)).collect::<Result<_>>()?;
    Ok(Arc::new(StateExpr { what, args, standings: Arc::clone(all) }))
}

fn visible(scan: Exec, rule: &Arc<Rule>) -> Result<Exec> {
    if rule.is_empty() {
        return Ok(scan);
    }
    let agent = column(&scan.schema(), "agent")?;
    let visible = VisibleExpr { rule: Arc::clone(rule), hunt: Arc::clone(&agent), agent };
    Ok(Arc::new(Barrier(Arc::new(FilterExec::try_new(Arc::new(visible), scan)?))))
}
