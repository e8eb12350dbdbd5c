//! Binds a [`Table`](crate::table::Table) to SQLite's virtual table interface.
//!
//! The only module with `unsafe`: rusqlite asks implementors to promise that the C base struct comes
//! first in a `repr(C)` struct, which both structs below do.

use std::ffi::c_int;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::vtab::{
    Context, Filters, IndexConstraintOp, IndexInfo, VTab, VTabConfig, VTabConnection, VTabCursor,
    eponymous_only_module, sqlite3_vtab, sqlite3_vtab_cursor,
};
use rusqlite::{Connection, Result, ToSql};

use crate::plan::{Plan, Step};
use crate::table::{Row, Rows, Scan, SharedTable, Use, Value, declaration};
use crate::warnings::Warnings;

/// Registers `table` with a connection; warnings of its scans go to `warnings`.
pub(crate) fn register(db: &Connection, table: SharedTable, warnings: Warnings) -> Result<()> {
    let name = table.name();
    db.create_module(name, eponymous_only_module::<Bound>(), Some(Shared { table, warnings }))
}

#[derive(Clone)]
struct Shared {
    table: SharedTable,
    warnings: Warnings,
}

#[repr(C)]
struct Bound {
    base: sqlite3_vtab,
    shared: Shared,
}

#[repr(C)]
struct Cursor {
    base: sqlite3_vtab_cursor,
    shared: Shared,
    rows: Option<Rows>,
    current: Option<Row>,
}

#[expect(unsafe_code, reason = "promises the layout: repr(C), base first")]
unsafe impl VTab<'_> for Bound {
    type Aux = Shared;
    type Cursor = Cursor;

    fn connect(
        db: &mut VTabConnection,
        aux: Option<&Shared>,
        _args: &[&[u8]],
    ) -> Result<(String, Self)> {
        let shared = aux.expect("registered with its table").clone();
        // Tables have no side effects, so they may be used inside views and triggers' expressions.
        db.config(VTabConfig::Innocuous)?;
        Ok((declaration(&*shared.table), Self { base: sqlite3_vtab::default(), shared }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<()> {
        let columns = self.shared.table.columns();
        let mut plan = Plan { columns_used: info.col_used(), ..Plan::default() };
        let mut narrowed = false;
        for (constraint, mut usage) in info.constraints_and_usages() {
            let Ok(at) = usize::try_from(constraint.column()) else { continue };
            let Some(column) = columns.get(at) else { continue };
            let step = match (constraint.operator(), column.usage) {
                (IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ, Use::Index | Use::Required) => {
                    Step::Equal(at)
                }
                (IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LIKE, Use::Required) => Step::Like(at),
                _ => continue,
            };
            if !constraint.is_usable() {
                continue;
            }
            plan.steps.push(step);
            usage.set_argv_index(c_int::try_from(plan.steps.len()).unwrap_or(c_int::MAX));
            narrowed |= matches!(step, Step::Equal(_));
        }
        let required = columns.iter().any(|column| column.usage == Use::Required);
        let missing = required && plan.steps.is_empty();
        // Must lose against any other order of a join, and against one scan per branch of an OR.
        info.set_estimated_cost(match () {
            () if missing => 1e14,
            () if narrowed => 10.0,
            () if required => 1e4,
            () => 1e6,
        });
        info.set_estimated_rows(if narrowed { 10 } else { 10_000 });
        info.set_idx_str(&plan.encode());
        Ok(())
    }

    fn open(&mut self) -> Result<Cursor> {
        Ok(Cursor {
            base: sqlite3_vtab_cursor::default(),
            shared: self.shared.clone(),
            rows: None,
            current: None,
        })
    }
}

#[expect(unsafe_code, reason = "promises the layout: repr(C), base first")]
unsafe impl VTabCursor for Cursor {
    fn filter(&mut self, _number: c_int, plan: Option<&str>, args: &Filters<'_>) -> Result<()> {
        let plan = Plan::decode(plan.unwrap_or_default());
        let mut scan = Scan {
            predicates: Vec::with_capacity(plan.steps.len()),
            columns_used: plan.columns_used,
            warnings: self.shared.warnings.clone(),
        };
        for (step, value) in plan.steps.iter().zip(args.iter()) {
            scan.predicates.extend(step.predicate(&owned(value)));
        }
        let columns = self.shared.table.columns();
        let required = columns.iter().filter(|column| column.usage == Use::Required);
        self.rows = if plan.steps.is_empty() && required.clone().next().is_some() {
            let names: Vec<&str> = required.map(|column| column.name).collect();
            self.shared.warnings.add(format!(
                "table {} gives no rows unless WHERE constrains {}",
                self.shared.table.name(),
                names.join(" or "),
            ));
            None
        } else {
            Some(self.shared.table.rows(&scan))
        };
        self.next()
    }

    fn next(&mut self) -> Result<()> {
        self.current = self.rows.as_mut().and_then(Iterator::next);
        Ok(())
    }

    fn eof(&self) -> bool {
        self.current.is_none()
    }

    fn column(&self, context: &mut Context, at: c_int) -> Result<()> {
        let row = self.current.as_ref();
        let cell = usize::try_from(at).ok().and_then(|at| row?.get(at)).unwrap_or(&Value::Null);
        context.set_result(cell)
    }

    fn rowid(&self) -> Result<i64> {
        // When several scans serve one OR, SQLite tells their rows apart by this alone.
        let hash = self.current.as_ref().map_or(0, |row| self.shared.table.identity(row));
        Ok(hash.cast_signed())
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// A predicate's right-hand side; a fraction or a blob is none of our keys.
fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::Int(number),
        #[expect(clippy::cast_possible_truncation, reason = "only when nothing is lost")]
        ValueRef::Real(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Value::Int(number as i64)
        }
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        _ => Value::Null,
    }
}
