//! SQLite over the tables, allowed to read and nothing else.

use std::collections::BTreeMap;

use muster_types::ColumnDecl;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Batch, Connection, OpenFlags};

use crate::table::SharedTable;
use crate::{Warnings, functions, vtab};

use super::hint;
use super::protocol::Chunk;
use super::statement;

/// Why a query gave no, or not all, rows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's own words, with a suggestion where a name is unknown.
    #[error("{0}")]
    Sql(String),
    /// A statement that does not read, or more than one.
    #[error("{0}")]
    Refused(&'static str),
    /// A parameter of the statement has no value.
    #[error("parameter {0} has no value")]
    Parameter(String),
    /// A limit was reached; rows up to it were handed out.
    #[error("{what} limit of {limit} reached")]
    Limit {
        /// `row`, `byte` or `memory`.
        what: &'static str,
        /// How much was allowed.
        limit: u64,
    },
    /// Rows could not be handed out.
    #[error("cannot write rows")]
    Output(#[from] std::io::Error),
}

/// What a statement may give.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows.
    pub rows_max: u64,
    /// Bytes of rows as JSON.
    pub bytes_max: u64,
}

/// What came of a statement.
#[derive(Debug)]
pub struct Answer {
    /// Whether it ran to its end.
    pub result: Result<(), Error>,
    /// Rows handed out, also when it did not.
    pub row_count: u64,
    /// Its columns.
    pub columns: Vec<ColumnDecl>,
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self { result: Err(error), row_count: 0, columns: Vec::new() }
    }
}

/// A connection with tables and functions.
pub struct Engine {
    db: Connection,
    tables: Vec<SharedTable>,
    warnings: Warnings,
    memory_bytes: Option<u64>,
}

impl Engine {
    /// An empty in-memory database with these tables. SQLite allocates at most `memory_bytes`.
    ///
    /// # Errors
    /// When SQLite cannot be set up.
    pub fn open(tables: Vec<SharedTable>, memory_bytes: Option<u64>) -> Result<Self, Error> {
        let setup = || -> rusqlite::Result<_> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_in_memory_with_flags(flags)?;
            if let Some(bytes) = memory_bytes {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                db.query_row(&format!("PRAGMA hard_heap_limit = {bytes}"), [], |_| Ok(()))?;
            }
            // Sorting and temporary tables stay in memory: a query writes no files.
            db.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF")?;
            db.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
            db.set_limit(Limit::SQLITE_LIMIT_COLUMN, 1000)?;
            functions::register(&db)?;
            let warnings = Warnings::default();
            for table in &tables {
                vtab::register(&db, table.clone(), warnings.clone())?;
            }
            db.execute_batch("PRAGMA query_only = ON")?;
            db.authorizer(Some(authorise))?;
            Ok((db, warnings))
        };
        let (db, warnings) = setup().map_err(|error| Error::Sql(error.to_string()))?;
        Ok(Self { db, tables, warnings, memory_bytes })
    }

    /// What tables said while queries ran.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.list()
    }

    /// Runs one statement; rows go to `sink` in arrays of about 256 KiB, each with the columns as
    /// known by then.
    pub fn run(
        &self,
        sql: &str,
        params: &BTreeMap<String, serde_json::Value>,
        bounds: Bounds,
        sink: &mut dyn FnMut(&Chunk, &[u8]) -> std::io::Result<()>,
    ) -> Answer {
        let mut batch = Batch::new(&self.db, sql);
        let mut statement = match batch.next() {
            Ok(Some(statement)) => statement,
            Ok(None) => return Error::Refused("there is no statement").into(),
            Err(error) => return self.explain(sql, error).into(),
        };
        if !matches!(batch.next(), Ok(None)) {
            return Error::Refused("only one statement is allowed").into();
        }
        if !statement.readonly() || statement.column_count() == 0 {
            return Error::Refused("only statements that read are allowed").into();
        }
        if let Err(error) = statement::bind(&mut statement, params) {
            return error.into();
        }
        let mut out = statement::Output::new(&statement, bounds, sink);
        let result = out.drain(&mut statement).map_err(|error| match error {
            statement::Failure::Sql(error) => self.explain(sql, error),
            statement::Failure::Other(error) => error,
        });
        Answer { result, row_count: out.row_count(), columns: out.columns() }
    }

    fn explain(&self, sql: &str, error: rusqlite::Error) -> Error {
        if let (Some(rusqlite::ErrorCode::OutOfMemory), Some(limit)) =
            (error.sqlite_error_code(), self.memory_bytes)
        {
            return Error::Limit { what: "memory", limit };
        }
        let message = match error {
            rusqlite::Error::SqlInputError { msg, .. }
            | rusqlite::Error::SqliteFailure(_, Some(msg)) => msg,
            other => other.to_string(),
        };
        let hint = hint::did_you_mean(&message, sql, &self.db, &self.tables);
        Error::Sql(format!("{message}{hint}"))
    }
}

/// Reading, functions and recursion; of the pragmas those that only describe.
fn authorise(context: AuthContext<'_>) -> Authorization {
    const DESCRIBING: [&str; 6] = [
        "table_info",
        "table_xinfo",
        "table_list",
        "function_list",
        "module_list",
        "collation_list",
    ];
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => {
            Authorization::Allow
        }
        AuthAction::Function { function_name } => {
            if function_name.eq_ignore_ascii_case("load_extension") {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }
        AuthAction::Pragma { pragma_name, .. } if DESCRIBING.contains(&pragma_name) => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}
