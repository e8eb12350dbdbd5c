//! Arguments to PostgreSQL, and its rows back.

use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Executor, Postgres, Row as _, TypeInfo, ValueRef};

use super::failure::Failure;
use crate::statement::parameter_count;
use crate::{Error, Kind, Row, Statement, Value};

pub(super) async fn fetch_all<'e, E>(
    on: E,
    s: &Statement,
    args: &[Value],
) -> Result<Vec<Row>, Failure>
where
    E: Executor<'e, Database = Postgres>,
{
    let query = sqlx::query_with(s.postgres, bind(s.name, s.postgres, args)?);
    let rows = query.fetch_all(on).await.map_err(|error| Failure::of(s.name, &error))?;
    Ok(read(&rows)?)
}

pub(super) async fn execute<'e, E>(on: E, s: &Statement, args: &[Value]) -> Result<u64, Failure>
where
    E: Executor<'e, Database = Postgres>,
{
    let query = sqlx::query_with(s.postgres, bind(s.name, s.postgres, args)?);
    let done = query.execute(on).await.map_err(|error| Failure::of(s.name, &error))?;
    Ok(done.rows_affected())
}

/// As [`fetch_all`], with a text that was made of names in the database's own catalogue.
pub(super) async fn fetch_text<'e, E>(
    on: E,
    text: String,
    args: &[Value],
) -> Result<Vec<Row>, Failure>
where
    E: Executor<'e, Database = Postgres>,
{
    let bound = bind("copy", &text, args)?;
    let query = sqlx::query_with(AssertSqlSafe(text), bound);
    let rows = query.fetch_all(on).await.map_err(|error| Failure::of("copy", &error))?;
    Ok(read(&rows)?)
}

/// As [`execute`], with such a text.
pub(super) async fn execute_text<'e, E>(on: E, text: String, args: &[Value]) -> Result<u64, Failure>
where
    E: Executor<'e, Database = Postgres>,
{
    let bound = bind("copy", &text, args)?;
    let query = sqlx::query_with(AssertSqlSafe(text), bound);
    let done = query.execute(on).await.map_err(|error| Failure::of("copy", &error))?;
    Ok(done.rows_affected())
}

/// Typed by the Rust type of each argument, NULL included: a cached statement keeps its types.
fn bind(name: &str, text: &str, args: &[Value]) -> Result<PgArguments, Error> {
    let expected = parameter_count(text);
    if args.len() != expected {
        let given = args.len();
        return Err(Error::Other(format!("{name}: {given} arguments, not {expected}")));
    }
    let mut bound = PgArguments::default();
    for value in args {
        match value {
            Value::Null(Kind::Integer) => bound.add(None::<i64>),
            Value::Null(Kind::Real) => bound.add(None::<f64>),
            Value::Null(Kind::Text) => bound.add(None::<String>),
            Value::Null(Kind::Bytes) => bound.add(None::<Vec<u8>>),
            Value::Null(Kind::Uuid) => bound.add(None::<uuid::Uuid>),
            Value::Integer(n) => bound.add(*n),
            Value::Real(n) => bound.add(*n),
            Value::Text(text) => bound.add(text.as_str()),
            Value::Bytes(bytes) => bound.add(bytes.as_slice()),
            Value::Uuid(uuid) => bound.add(*uuid),
            Value::Overflow(n) => {
                return Err(Error::Other(format!("{name}: {n} is above 2^63-1")));
            }
        }
        .map_err(|error| Error::Other(format!("{name}: {error}")))?;
    }
    Ok(bound)
}

fn read(rows: &[PgRow]) -> Result<Vec<Row>, Error> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[Box<str>]> = first.columns().iter().map(|c| c.name().into()).collect();
    rows.iter()
        .map(|row| {
            let values = (0..row.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
            Ok(Row::new(columns.clone(), values))
        })
        .collect()
}

fn value(row: &PgRow, at: usize) -> Result<Value, Error> {
    let column = &row.columns()[at];
    let named = |error: sqlx::Error| Error::of(column.name(), &error);
    let raw = row.try_get_raw(at).map_err(named)?;
    let null = raw.is_null();
    let type_info = raw.type_info();
    let found = match type_info.name() {
        "INT8" if null => Value::Null(Kind::Integer),
        "INT8" => Value::Integer(row.try_get(at).map_err(named)?),
        "INT4" if null => Value::Null(Kind::Integer),
        "INT4" => Value::Integer(row.try_get::<i32, _>(at).map_err(named)?.into()),
        "INT2" if null => Value::Null(Kind::Integer),
        "INT2" => Value::Integer(row.try_get::<i16, _>(at).map_err(named)?.into()),
        "BOOL" if null => Value::Null(Kind::Integer),
        "BOOL" => Value::Integer(row.try_get::<bool, _>(at).map_err(named)?.into()),
        "FLOAT8" if null => Value::Null(Kind::Real),
        "FLOAT8" => Value::Real(row.try_get(at).map_err(named)?),
        "BYTEA" if null => Value::Null(Kind::Bytes),
        "BYTEA" => Value::Bytes(row.try_get(at).map_err(named)?),
        "UUID" if null => Value::Null(Kind::Uuid),
        "UUID" => Value::Uuid(row.try_get(at).map_err(named)?),
        "TEXT" | "VARCHAR" | "NAME" | "CHAR" | "unknown" if null => Value::Null(Kind::Text),
        "TEXT" | "VARCHAR" | "NAME" | "CHAR" => Value::Text(row.try_get(at).map_err(named)?),
        "VOID" => Value::Null(Kind::Integer),
        other => {
            let name = column.name();
            return Err(Error::Other(format!("column {name} is of type {other}: cast it")));
        }
    };
    Ok(found)
}
