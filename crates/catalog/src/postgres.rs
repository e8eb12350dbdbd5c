//! PostgreSQL: a pool, READ COMMITTED.

use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{Arguments, Column, Executor, PgPool, Postgres, Row as _, TypeInfo, ValueRef};

use crate::statement::parameter_count;
use crate::{Args, Error, Kind, Options, Row, Statement, Value};

pub(crate) async fn open(url: &str, options: &Options, read_only: bool) -> Result<PgPool, Error> {
    let statement_ms = options.statement_timeout.as_millis().to_string();
    let hold_ms = options.hold_timeout.as_millis().to_string();
    let connect = url
        .parse::<PgConnectOptions>()
        .map_err(|error| Error::Refused(format!("the catalog URL is not understood: {error}")))?
        .application_name("muster")
        .statement_cache_capacity(512)
        .options([
            ("statement_timeout", statement_ms.as_str()),
            ("idle_in_transaction_session_timeout", hold_ms.as_str()),
            ("default_transaction_isolation", "read committed"),
            ("default_transaction_read_only", if read_only { "on" } else { "off" }),
        ]);
    PgPoolOptions::new()
        .max_connections(options.connections_max)
        .acquire_timeout(options.acquire_timeout)
        .connect_with(connect)
        .await
        .map_err(|error| Error::of("connect", &error))
}

pub(crate) async fn fetch_all<'e, E>(on: E, s: &Statement, args: Args) -> Result<Vec<Row>, Error>
where
    E: Executor<'e, Database = Postgres>,
{
    let query = sqlx::query_with(s.postgres, bind(s, args)?);
    let rows = query.fetch_all(on).await.map_err(|error| Error::of(s.name, &error))?;
    read(&rows)
}

pub(crate) async fn execute<'e, E>(on: E, s: &Statement, args: Args) -> Result<u64, Error>
where
    E: Executor<'e, Database = Postgres>,
{
    let query = sqlx::query_with(s.postgres, bind(s, args)?);
    let done = query.execute(on).await.map_err(|error| Error::of(s.name, &error))?;
    Ok(done.rows_affected())
}

#[derive(Debug)]
pub(crate) struct PostgresTx(sqlx::Transaction<'static, Postgres>);

impl PostgresTx {
    pub(crate) async fn begin(pool: &PgPool) -> Result<Self, Error> {
        pool.begin().await.map(Self).map_err(|error| Error::of("begin", &error))
    }

    pub(crate) async fn fetch_all(&mut self, s: &Statement, args: Args) -> Result<Vec<Row>, Error> {
        fetch_all(&mut *self.0, s, args).await
    }

    pub(crate) async fn execute(&mut self, s: &Statement, args: Args) -> Result<u64, Error> {
        execute(&mut *self.0, s, args).await
    }

    /// Several statements without arguments, for migrations.
    pub(crate) async fn script(&mut self, text: &'static str) -> Result<(), Error> {
        let done = sqlx::raw_sql(text).execute(&mut *self.0).await;
        done.map(drop).map_err(|error| Error::of("script", &error))
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.0.commit().await.map_err(|error| Error::of("commit", &error))
    }

    pub(crate) async fn rollback(self) {
        if let Err(error) = self.0.rollback().await {
            tracing::debug!(%error, "rolling back failed; the connection is given up");
        }
    }
}

/// Typed by the Rust type of each argument, NULL included: a cached statement keeps its types.
fn bind(s: &Statement, args: Args) -> Result<PgArguments, Error> {
    let expected = parameter_count(s.postgres);
    if args.len() != expected {
        let given = args.len();
        return Err(Error::Other(format!("{}: {given} arguments, not {expected}", s.name)));
    }
    let mut bound = PgArguments::default();
    for value in args {
        match value {
            Value::Null(Kind::Integer) => bound.add(None::<i64>),
            Value::Null(Kind::Real) => bound.add(None::<f64>),
            Value::Null(Kind::Text) => bound.add(None::<String>),
            Value::Null(Kind::Bytes) => bound.add(None::<Vec<u8>>),
            Value::Null(Kind::Uuid) => bound.add(None::<uuid::Uuid>),
            Value::Integer(n) => bound.add(n),
            Value::Real(n) => bound.add(n),
            Value::Text(text) => bound.add(text),
            Value::Bytes(bytes) => bound.add(bytes),
            Value::Uuid(uuid) => bound.add(uuid),
            Value::Overflow(n) => {
                return Err(Error::Other(format!("{}: {n} is above 2^63-1", s.name)));
            }
        }
        .map_err(|error| Error::Other(format!("{}: {error}", s.name)))?;
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
