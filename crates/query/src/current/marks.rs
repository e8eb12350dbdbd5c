//! Reading the marks of a current table's parts, and which sources have steps.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::catalog::Session;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_plan::execute_stream;
use futures_util::TryStreamExt;

use super::CurrentTable;
use super::standing::Standings;
use crate::results::{Files, PartFile};

/// What is read of every mark.
const READ: [&str; 6] = ["agent", "_source", "_generation", "_count", "_gap", "received_time"];

/// Parts by what they are.
pub(super) struct Sorted {
    /// Merged: of each agent and source all rows are in one.
    pub bases: Vec<Arc<PartFile>>,
    /// What is beside them.
    pub steps: Vec<Arc<PartFile>>,
}

impl Sorted {
    /// Of each bucket the longest part of level 2 is the base.
    pub(super) fn new(mut parts: Vec<Arc<PartFile>>) -> Self {
        parts.sort_by_key(|file| std::cmp::Reverse((file.part.level, file.part.info.row_count)));
        let mut known = std::collections::BTreeSet::new();
        let is_base =
            |file: &Arc<PartFile>| file.part.level >= 2 && known.insert(file.part.info.day);
        let (bases, steps) = parts.into_iter().partition(is_base);
        Self { bases, steps }
    }
}

/// Reads how everything stands.
pub(super) async fn read(
    table: &CurrentTable,
    state: &dyn Session,
    parts: &Sorted,
) -> Result<Standings> {
    let mut standings = Standings::default();
    for (files, base) in [(&parts.bases, true), (&parts.steps, false)] {
        if files.is_empty() {
            continue;
        }
        let at = |name: &&str| table.file_schema.index_of(name);
        let read = READ.iter().map(at).collect::<Result<Vec<_>, _>>()?;
        // A base is sorted so that its marks stand together.
        let is_mark = || -> Result<_> {
            let count = Column::new_with_schema("_count", &table.file_schema)?;
            let none = Arc::new(Literal::new(ScalarValue::Int32(Some(0))));
            Ok(Arc::new(BinaryExpr::new(Arc::new(count), Operator::Eq, none)) as _)
        };
        let scan = Files {
            state,
            schema: &table.file_schema,
            columns: &table.columns,
            read,
            index: true,
            pushdown: base,
            predicate: base.then(is_mark).transpose()?,
            limit: None,
        };
        let mut rows = execute_stream(scan.exec(files)?, state.task_ctx())?;
        while let Some(batch) = rows.try_next().await? {
            take(&mut standings, &batch, base);
        }
    }
    Ok(standings)
}

fn take(standings: &mut Standings, batch: &RecordBatch, base: bool) {
    let agents = batch.column(0).as_primitive::<Int64Type>();
    let sources = batch.column(1).as_string_view();
    let generations = batch.column(2).as_primitive::<Int64Type>();
    let counts = batch.column(3).as_primitive::<Int32Type>();
    let gaps = batch.column(4).as_boolean();
    let received = batch.column(5).as_primitive::<TimestampMicrosecondType>();
    for row in 0..batch.num_rows() {
        let (source, agent) = (sources.value(row), agents.value(row));
        let generation = generations.value(row);
        if counts.value(row) == 0 {
            standings.mark(source, agent, generation, received.value(row), gaps.value(row));
        } else if !base {
            standings.step(source, agent, generation);
        }
    }
}
