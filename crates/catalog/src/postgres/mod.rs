//! PostgreSQL: a primary that may change, READ COMMITTED, and replicas for reads that may be stale.
//!
//! What is tried again, at most [`TRIES`] times: reads and beginnings, which change nothing, when their
//! connection is lost; single statements that the database itself gave up for another transaction. A
//! statement or a commit whose connection is lost may have happened: that is told, never tried again.

mod failure;
mod hosts;
mod replicas;
mod servers;
mod transaction;
mod values;

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;

use self::failure::Failure;
use self::replicas::Replicas;
pub(crate) use self::replicas::STATEMENTS;
use self::servers::{Servers, Up, Wanted};
pub(crate) use self::transaction::PostgresTx;
use crate::{Args, Error, Options, Priority, Row, Statement, Value};

/// How often a call that certainly changed nothing is made in all.
const TRIES: u32 = 3;
/// Before a call is made again, times its number.
const BACK_OFF: Duration = Duration::from_millis(20);
/// What is waited for beyond a time that the server keeps by itself.
const SLACK: Duration = Duration::from_secs(5);

/// The servers of one catalog.
#[derive(Debug)]
pub(crate) struct Postgres {
    servers: Arc<Servers>,
    replicas: Replicas,
    options: Options,
}

impl Postgres {
    pub(crate) async fn open(url: &str, options: &Options, read_only: bool) -> Result<Self, Error> {
        let hosts = hosts::parse(url, options, read_only)?;
        let servers = Arc::new(Servers::new(hosts, Wanted::Primary, options));
        let replicas = Replicas::new(&options.replicas, options)?;
        servers.open().await?;
        Ok(Self { servers, replicas, options: options.clone() })
    }

    /// Whether the primary is there, as far as is known.
    /// Connections to the server in use; none while there is none.
    pub(crate) fn pool_now(&self) -> crate::Pool {
        self.servers.pool_now()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.servers.is_up()
    }

    pub(crate) async fn fetch_all(&self, s: &Statement, args: &[Value]) -> Result<Vec<Row>, Error> {
        read(&self.servers, self.longest(), s, args).await
    }

    /// From a replica that follows closely enough, else from the primary.
    pub(crate) async fn fetch_stale(
        &self,
        s: &Statement,
        args: &[Value],
    ) -> Result<Vec<Row>, Error> {
        match self.replicas.fetch_all(self.longest(), s, args).await {
            Some(rows) => Ok(rows),
            None => self.fetch_all(s, args).await,
        }
    }

    /// One statement that commits by itself.
    pub(crate) async fn execute(
        &self,
        priority: Priority,
        s: &Statement,
        args: Args,
    ) -> Result<u64, Error> {
        let most = self.patience(priority);
        for n in 1.. {
            let (up, mut connection) = acquire(&self.servers).await?;
            let call = values::execute(&mut *connection, s, &args);
            match self.servers.watched(&up, most, call).await {
                Ok(changed) => return Ok(changed),
                // The database undid it for the sake of another transaction.
                Err(Failure { error: Error::Conflict(_), .. }) if n < TRIES => {}
                Err(failure) => return Err(failure.error),
            }
            drop(connection);
            tokio::time::sleep(BACK_OFF * n).await;
        }
        unreachable!("the last try returns")
    }

    pub(crate) async fn begin(&self, priority: Priority) -> Result<PostgresTx, Error> {
        PostgresTx::begin(self.servers.clone(), self.longest(), self.patience(priority)).await
    }

    /// A view of one moment, for as long as a copy takes.
    pub(crate) async fn snapshot(&self) -> Result<PostgresTx, Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        // One page at a time is read, and between two the reader writes to its own disk.
        let patient = "SET LOCAL idle_in_transaction_session_timeout = '10min';
            SET LOCAL statement_timeout = '10min'";
        let longest = Duration::from_secs(600);
        let mut tx =
            PostgresTx::begin_as(begin, self.servers.clone(), longest, self.longest()).await?;
        tx.script(patient).await?;
        Ok(tx)
    }

    /// The pool of the primary, for checks of statements.
    pub(crate) async fn pool(&self) -> Result<sqlx::PgPool, Error> {
        Ok(self.servers.up().await?.pool().clone())
    }

    pub(crate) async fn close(&self) {
        self.servers.close().await;
        self.replicas.close().await;
    }

    /// The server ends a statement by itself after its time; this is for one that does not.
    fn longest(&self) -> Duration {
        self.options.statement_timeout + SLACK
    }

    /// A commit that waits for a synchronous standby has no bound of the server's: a person is told
    /// early that the outcome is not known, and work in the background can wait for longer.
    fn patience(&self, priority: Priority) -> Duration {
        match priority {
            Priority::Api => self.options.commit_timeout,
            _ => self.options.commit_timeout * 3,
        }
    }
}

/// A connection of the server in use; nothing has happened on it.
async fn acquire(servers: &Servers) -> Result<(Arc<Up>, PoolConnection<sqlx::Postgres>), Error> {
    for n in 1.. {
        let up = servers.up().await?;
        let call = async { up.pool().acquire().await.map_err(|e| Failure::of("connect", &e)) };
        // The pool keeps the time by itself.
        match servers.watched(&up, Duration::MAX, call).await {
            Ok(connection) => return Ok((up, connection)),
            Err(failure) if failure.lost && n < TRIES => tokio::time::sleep(BACK_OFF * n).await,
            Err(failure) => return Err(failure.error),
        }
    }
    unreachable!("the last try returns")
}

async fn read(
    servers: &Servers,
    most: Duration,
    s: &Statement,
    args: &[Value],
) -> Result<Vec<Row>, Error> {
    for n in 1.. {
        let (up, mut connection) = acquire(servers).await?;
        match servers.watched(&up, most, values::fetch_all(&mut *connection, s, args)).await {
            Ok(rows) => return Ok(rows),
            Err(failure) if failure.lost && n < TRIES => {}
            Err(failure) => return Err(failure.error),
        }
        drop(connection);
        tokio::time::sleep(BACK_OFF * n).await;
    }
    unreachable!("the last try returns")
}
