//! One prepared statement: values in, rows out.

use std::collections::BTreeMap;

use muster_types::ColumnDecl;
use rusqlite::Statement;
use rusqlite::types::Value;

use super::engine::{Bounds, Error};
use super::json::Columns;
use super::protocol::Chunk;

/// Rows are handed out when this many bytes have gathered.
const CHUNK_BYTES: usize = 256 << 10;

/// SQLite's errors are explained by the engine; the others are final.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(rusqlite::Error),
    Other(Error),
}

/// Gives every parameter of the statement its value. Values it does not name are left aside.
pub(crate) fn bind(
    statement: &mut Statement<'_>,
    params: &BTreeMap<String, serde_json::Value>,
) -> Result<(), Error> {
    for at in 1..=statement.parameter_count() {
        let name = statement.parameter_name(at).unwrap_or("?").to_owned();
        let value = params.get(name.trim_start_matches([':', '@', '$']));
        let value = value.ok_or_else(|| Error::Parameter(name.clone()))?;
        statement
            .raw_bind_parameter(at, sql_value(value))
            .map_err(|error| Error::Sql(error.to_string()))?;
    }
    Ok(())
}

/// Lists and objects stay JSON, for `json_each`.
fn sql_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(yes) => Value::Integer(i64::from(*yes)),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Integer(number),
            (None, Some(number)) => Value::Real(number),
            (None, None) => Value::Text(number.to_string()),
        },
        serde_json::Value::String(text) => Value::Text(text.clone()),
        other => Value::Text(other.to_string()),
    }
}

/// Where rows go.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&Chunk, &[u8]) -> std::io::Result<()>;

/// Gathers rows into chunks.
pub(crate) struct Output<'a> {
    columns: Columns,
    bounds: Bounds,
    sink: Sink<'a>,
    buffer: Vec<u8>,
    chunk_rows: u64,
    row_count: u64,
    byte_count: u64,
}

impl<'a> Output<'a> {
    pub(crate) fn new(statement: &Statement<'_>, bounds: Bounds, sink: Sink<'a>) -> Self {
        Self {
            columns: Columns::new(&statement.columns()),
            bounds,
            sink,
            buffer: Vec::with_capacity(CHUNK_BYTES / 4),
            chunk_rows: 0,
            row_count: 0,
            byte_count: 0,
        }
    }

    pub(crate) fn row_count(&self) -> u64 {
        self.row_count
    }

    pub(crate) fn columns(&self) -> Vec<ColumnDecl> {
        self.columns.decls()
    }

    /// Runs the statement to its end, or to a limit.
    pub(crate) fn drain(&mut self, statement: &mut Statement<'_>) -> Result<(), Failure> {
        let result = self.rows(statement);
        // What was gathered before a failure is valid, and may be all there is.
        let flushed = self.flush().map_err(|error| Failure::Other(error.into()));
        result.and(flushed)
    }

    fn rows(&mut self, statement: &mut Statement<'_>) -> Result<(), Failure> {
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(Failure::Sql)? {
            if self.row_count == self.bounds.rows_max {
                let limit = self.bounds.rows_max;
                return Err(Failure::Other(Error::Limit { what: "row", limit }));
            }
            let before = self.buffer.len();
            self.buffer.push(if self.chunk_rows == 0 { b'[' } else { b',' });
            for at in 0..self.columns.len() {
                let value = row.get_ref(at).map_err(Failure::Sql)?;
                self.columns.write(at, value, &mut self.buffer);
            }
            self.buffer.push(b'}');
            self.byte_count += (self.buffer.len() - before) as u64;
            if self.byte_count > self.bounds.bytes_max {
                self.buffer.truncate(before);
                let limit = self.bounds.bytes_max;
                return Err(Failure::Other(Error::Limit { what: "byte", limit }));
            }
            self.row_count += 1;
            self.chunk_rows += 1;
            if self.buffer.len() >= CHUNK_BYTES {
                self.flush().map_err(|error| Failure::Other(error.into()))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.chunk_rows == 0 {
            return Ok(());
        }
        self.buffer.push(b']');
        let chunk = Chunk {
            row_count: self.chunk_rows,
            byte_count: self.buffer.len() as u64,
            columns: self.columns.decls(),
        };
        (self.sink)(&chunk, &self.buffer)?;
        self.buffer.clear();
        self.chunk_rows = 0;
        Ok(())
    }
}
