//! Values to SQLite and back.

use std::sync::Arc;

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Executor, Row as _, TypeInfo, ValueRef};

use crate::statement::parameter_count;
use crate::{Args, Error, Kind, Row, Statement, Value};

pub(crate) async fn fetch_all<'e, E>(on: E, s: &Statement, args: Args) -> Result<Vec<Row>, Error>
where
    E: Executor<'e, Database = sqlx::Sqlite>,
{
    let query = sqlx::query_with(s.sqlite, bind(s.name, s.sqlite, args)?);
    let rows = query.fetch_all(on).await.map_err(|error| Error::of(s.name, &error))?;
    read(&rows)
}

pub(crate) async fn execute<'e, E>(on: E, s: &Statement, args: Args) -> Result<u64, Error>
where
    E: Executor<'e, Database = sqlx::Sqlite>,
{
    let query = sqlx::query_with(s.sqlite, bind(s.name, s.sqlite, args)?);
    let done = query.execute(on).await.map_err(|error| Error::of(s.name, &error))?;
    Ok(done.rows_affected())
}

/// As [`fetch_all`], with a text that was made of names in the database's own catalogue.
pub(crate) async fn fetch_text<'e, E>(on: E, text: String, args: Args) -> Result<Vec<Row>, Error>
where
    E: Executor<'e, Database = sqlx::Sqlite>,
{
    let bound = bind("copy", &text, args)?;
    let query = sqlx::query_with(AssertSqlSafe(text), bound);
    let rows = query.fetch_all(on).await.map_err(|error| Error::of("copy", &error))?;
    read(&rows)
}

/// As [`execute`], with such a text.
pub(crate) async fn execute_text<'e, E>(on: E, text: String, args: Args) -> Result<u64, Error>
where
    E: Executor<'e, Database = sqlx::Sqlite>,
{
    let bound = bind("copy", &text, args)?;
    let query = sqlx::query_with(AssertSqlSafe(text), bound);
    let done = query.execute(on).await.map_err(|error| Error::of("copy", &error))?;
    Ok(done.rows_affected())
}

/// Counts the arguments itself: SQLite takes a missing one for NULL.
fn bind(name: &str, text: &str, args: Args) -> Result<SqliteArguments, Error> {
    let expected = parameter_count(text);
    if args.len() != expected {
        let given = args.len();
        return Err(Error::Other(format!("{name}: {given} arguments, not {expected}")));
    }
    let mut bound = SqliteArguments::default();
    for value in args {
        match value {
            Value::Null(_) => bound.add(None::<i64>),
            Value::Integer(n) => bound.add(n),
            Value::Real(n) => bound.add(n),
            Value::Text(text) => bound.add(text),
            Value::Bytes(bytes) => bound.add(bytes),
            Value::Uuid(uuid) => bound.add(uuid),
            Value::Overflow(n) => {
                return Err(Error::Other(format!("{name}: {n} is above 2^63-1")));
            }
        }
        .map_err(|error| Error::Other(format!("{name}: {error}")))?;
    }
    Ok(bound)
}

fn read(rows: &[SqliteRow]) -> Result<Vec<Row>, Error> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let columns: Arc<[Box<str>]> = first.columns().iter().map(|c| c.name().into()).collect();
    rows.iter()
        .map(|row| {
            let values = (0..row.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
            Ok(Row::new(columns.clone(), values))
        })
        .collect()
}

/// By the type of the value itself, which STRICT tables keep equal to the column's.
fn value(row: &SqliteRow, at: usize) -> Result<Value, Error> {
    let named = |error: sqlx::Error| Error::of(row.columns()[at].name(), &error);
    let raw = row.try_get_raw(at).map_err(named)?;
    if raw.is_null() {
        return Ok(Value::Null(Kind::Integer));
    }
    let type_info = raw.type_info();
    Ok(match type_info.name() {
        "INTEGER" => Value::Integer(row.try_get_unchecked(at).map_err(named)?),
        "REAL" => Value::Real(row.try_get_unchecked(at).map_err(named)?),
        "TEXT" => Value::Text(row.try_get_unchecked(at).map_err(named)?),
        _ => Value::Bytes(row.try_get_unchecked(at).map_err(named)?),
    })
}
