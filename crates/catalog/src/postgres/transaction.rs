//! A write transaction.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, Postgres, Transaction};

use super::failure::Failure;
use super::servers::{Servers, Up};
use super::{BACK_OFF, TRIES, values};
use crate::{Args, Error, Row, Statement};

/// A transaction of the server that was the primary when it began, and of no other.
#[derive(Debug)]
pub(crate) struct PostgresTx {
    inner: Transaction<'static, Postgres>,
    servers: Arc<Servers>,
    up: Arc<Up>,
    longest: Duration,
    commit: Duration,
}

impl PostgresTx {
    pub(super) async fn begin(
        servers: Arc<Servers>,
        longest: Duration,
        commit: Duration,
    ) -> Result<Self, Error> {
        Self::begin_as("BEGIN", servers, longest, commit).await
    }

    /// A transaction that begins with these words.
    pub(super) async fn begin_as(
        begin: &'static str,
        servers: Arc<Servers>,
        longest: Duration,
        commit: Duration,
    ) -> Result<Self, Error> {
        for n in 1.. {
            let up = servers.up().await?;
            let call =
                async { up.pool().begin_with(begin).await.map_err(|e| Failure::of("begin", &e)) };
            match servers.watched(&up, longest, call).await {
                Ok(inner) => return Ok(Self { inner, servers, up, longest, commit }),
                Err(failure) if failure.lost && n < TRIES => {}
                Err(failure) => return Err(failure.error),
            }
            tokio::time::sleep(BACK_OFF * n).await;
        }
        unreachable!("the last try returns")
    }

    pub(crate) async fn fetch_all(&mut self, s: &Statement, args: Args) -> Result<Vec<Row>, Error> {
        let connection: &mut PgConnection = &mut self.inner;
        let call = values::fetch_all(connection, s, &args);
        self.servers.watched(&self.up, self.longest, call).await.map_err(|failure| failure.error)
    }

    pub(crate) async fn execute(&mut self, s: &Statement, args: Args) -> Result<u64, Error> {
        let connection: &mut PgConnection = &mut self.inner;
        let call = values::execute(connection, s, &args);
        self.servers.watched(&self.up, self.longest, call).await.map_err(|failure| failure.error)
    }

    /// As [`PostgresTx::execute`], with a text that was made of names in the database's own catalogue.
    pub(crate) async fn execute_text(&mut self, text: String, args: Args) -> Result<u64, Error> {
        let connection: &mut PgConnection = &mut self.inner;
        let call = values::execute_text(connection, text, &args);
        self.servers.watched(&self.up, self.longest, call).await.map_err(|failure| failure.error)
    }

    /// A page of a view, likewise.
    pub(crate) async fn fetch_text(&mut self, text: String, args: Args) -> Result<Vec<Row>, Error> {
        let connection: &mut PgConnection = &mut self.inner;
        let call = values::fetch_text(connection, text, &args);
        self.servers.watched(&self.up, self.longest, call).await.map_err(|failure| failure.error)
    }

    /// Several statements without arguments, for migrations; they may take as long as they need.
    pub(crate) async fn script(&mut self, text: &'static str) -> Result<(), Error> {
        let connection: &mut PgConnection = &mut self.inner;
        let call = async {
            let done = sqlx::raw_sql(text).execute(connection).await;
            done.map(drop).map_err(|error| Failure::of("script", &error))
        };
        let done = self.servers.watched(&self.up, Duration::MAX, call).await;
        done.map_err(|failure| failure.error)
    }

    /// On a server that was lost meanwhile nothing is committed: it may not be the primary any more.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        let Self { inner, servers, up, commit, .. } = self;
        let call = async { inner.commit().await.map_err(|e| Failure::of("commit", &e)) };
        servers.watched(&up, commit, call).await.map_err(|failure| failure.error)
    }

    pub(crate) async fn rollback(self) {
        let Self { inner, servers, up, longest, .. } = self;
        let call = async { inner.rollback().await.map_err(|e| Failure::of("rollback", &e)) };
        if let Err(failure) = servers.watched(&up, longest, call).await {
            let error = failure.error;
            tracing::debug!(%error, "rolling back failed; the connection is given up");
        }
    }
}
