//! An empty virtual table with the columns of a real one. It answers SQLite's planner as osquery
//! does, so that the plan of a query here is the plan an agent would follow.

use std::ffi::c_int;

use rusqlite::vtab::{
    Context, Filters, IndexConstraintOp, IndexInfo, VTab, VTabConnection, VTabCursor,
    eponymous_only_module, sqlite3_vtab, sqlite3_vtab_cursor,
};
use rusqlite::{Connection, Result};

use super::facts::Table;

/// Marks, in a plan, a table that is read without what it needs.
pub const UNCONSTRAINED: &str = "unconstrained";

/// Makes the table known to a connection.
pub fn register(db: &Connection, table: Table) -> Result<()> {
    db.create_module(table.name, eponymous_only_module::<Empty>(), Some(table))
}

#[repr(C)]
struct Empty {
    base: sqlite3_vtab,
    table: Table,
}

#[repr(C)]
struct NoRows {
    base: sqlite3_vtab_cursor,
}

#[expect(unsafe_code, reason = "promises the layout: repr(C), base first")]
unsafe impl VTab<'_> for Empty {
    type Aux = Table;
    type Cursor = NoRows;

    fn connect(
        _db: &mut VTabConnection,
        table: Option<&Table>,
        _args: &[&[u8]],
    ) -> Result<(String, Self)> {
        let table = table.expect("registered with its table").clone();
        let column = |column: &super::facts::Column| {
            let hidden = if column.hidden { " HIDDEN" } else { "" };
            format!("\"{}\" {}{hidden}", column.name, column.kind.sql())
        };
        let columns: Vec<String> = table.columns.iter().map(column).collect();
        let declaration = format!("CREATE TABLE x({})", columns.join(", "));
        Ok((declaration, Self { base: sqlite3_vtab::default(), table }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> Result<()> {
        let columns = &self.table.columns;
        let mut has = 0;
        for (constraint, mut usage) in info.constraints_and_usages() {
            let at = usize::try_from(constraint.column()).ok();
            let must = at.and_then(|at| columns.get(at)).is_some_and(|column| column.must);
            let narrows = matches!(
                constraint.operator(),
                IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ
                    | IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LIKE
            );
            if must && narrows && constraint.is_usable() {
                has += 1;
                usage.set_argv_index(has);
            }
        }
        info.set_estimated_cost(if has > 0 { 1.0 } else { 1e6 });
        if has == 0 && columns.iter().any(|column| column.must) {
            info.set_idx_str(UNCONSTRAINED);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<NoRows> {
        Ok(NoRows { base: sqlite3_vtab_cursor::default() })
    }
}

#[expect(unsafe_code, reason = "promises the layout: repr(C), base first")]
unsafe impl VTabCursor for NoRows {
    fn filter(&mut self, _number: c_int, _plan: Option<&str>, _args: &Filters<'_>) -> Result<()> {
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        Ok(())
    }

    fn eof(&self) -> bool {
        true
    }

    fn column(&self, _context: &mut Context, _at: c_int) -> Result<()> {
        Ok(())
    }

    fn rowid(&self) -> Result<i64> {
        Ok(0)
    }
}
