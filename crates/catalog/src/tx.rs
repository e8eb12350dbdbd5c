//! A write transaction, the same on both databases.

use std::sync::Arc;
use std::time::Instant;

use muster_types::Timestamp;
use tracing::Instrument as _;

use crate::calls::Calls;
use crate::{Args, Error, Row, Statement, feed, postgres::PostgresTx, sqlite::SqliteTx};

/// Who goes first at SQLite's one writer. PostgreSQL has many writers and no need of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A person waits.
    Api,
    /// Heartbeats and leases: late ones are lost ones.
    Lease,
    /// Segments, progress of hunts, waves.
    Intake,
    /// Who was seen when.
    Presence,
}

impl Priority {
    pub(crate) const COUNT: usize = 4;
}

/// A write transaction. Dropped without [`Tx::commit`] it is rolled back.
///
/// After a failed statement only rolling back is left: every later call fails. It holds SQLite's
/// only writer, so there is no waiting for anything else while one is open.
#[derive(Debug)]
pub struct Tx {
    pub(crate) inner: Inner,
    /// The statement that failed, or was dropped half way; it spoils the transaction.
    pub(crate) spent: Option<&'static str>,
    calls: Arc<Calls>,
    begun: Instant,
    /// Ends with the transaction.
    span: tracing::Span,
}

#[derive(Debug)]
pub(crate) enum Inner {
    Sqlite(SqliteTx),
    Postgres(PostgresTx),
}

impl Tx {
    pub(crate) fn new(
        inner: Inner,
        calls: Arc<Calls>,
        begun: Instant,
        span: tracing::Span,
    ) -> Self {
        Self { inner, spent: None, calls, begun, span }
    }

    /// All rows of an answer.
    ///
    /// # Errors
    /// Any [`Error`]; the transaction is spent then.
    pub async fn fetch_all(&mut self, s: &Statement, args: Args) -> Result<Vec<Row>, Error> {
        self.enter(s)?;
        let rows = match &mut self.inner {
            Inner::Sqlite(tx) => tx.fetch_all(s, args).await,
            Inner::Postgres(tx) => tx.fetch_all(s, args).await,
        };
        self.leave(rows)
    }

    /// The first row of an answer.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn fetch_optional(
        &mut self,
        s: &Statement,
        args: Args,
    ) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(s, args).await?.into_iter().next())
    }

    /// The first row of an answer that has one.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`], and [`Error::Other`] when there is no row.
    pub async fn fetch_one(&mut self, s: &Statement, args: Args) -> Result<Row, Error> {
        let row = self.fetch_optional(s, args).await?;
        row.ok_or_else(|| Error::Other(format!("{}: no row where there must be one", s.name)))
    }

    /// Changes rows and returns how many.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn execute(&mut self, s: &Statement, args: Args) -> Result<u64, Error> {
        self.enter(s)?;
        let changed = match &mut self.inner {
            Inner::Sqlite(tx) => tx.execute(s, args).await,
            Inner::Postgres(tx) => tx.execute(s, args).await,
        };
        self.leave(changed)
    }

    /// Database time.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn now(&mut self) -> Result<Timestamp, Error> {
        self.fetch_one(&feed::NOW, Args::new()).await?.get("now")
    }

    /// Raises a feed by one and returns its new number. Several topics: ascending by name.
    ///
    /// The row stays locked until the transaction ends, so the order of numbers is commit order.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn bump(&mut self, topic: &str) -> Result<i64, Error> {
        self.bump_by(topic, 1).await
    }

    /// Raises a feed by `n` and returns the last of the `n` numbers taken.
    ///
    /// # Errors
    /// As [`Tx::fetch_all`].
    pub async fn bump_by(&mut self, topic: &str, n: i64) -> Result<i64, Error> {
        debug_assert!(n >= 0, "feeds only rise");
        let args = crate::args![topic, n];
        match self.fetch_optional(&feed::RAISE, args.clone()).await? {
            Some(row) => row.get("seq"),
            None => self.fetch_one(&feed::BUMP, args).await?.get("seq"),
        }
    }

    /// Makes it durable. On `Ok` it is on disk.
    ///
    /// # Errors
    /// Any [`Error`]. [`Error::Unavailable`] leaves open whether it happened: read back.
    ///
    /// # Cancel safety
    /// Dropped half way it may or may not have happened.
    pub async fn commit(self) -> Result<(), Error> {
        if let Some(name) = self.spent {
            return Err(spoilt(name));
        }
        self.calls.ask()?;
        let Self { inner, calls, begun, span, .. } = self;
        let commit = async {
            match inner {
                Inner::Sqlite(tx) => tx.commit().await,
                Inner::Postgres(tx) => tx.commit().await,
            }
        };
        let commit = Box::pin(commit.instrument(span)).await;
        let commit = commit.and_then(|()| calls.committed());
        calls.stats.seen(&calls.stats.transactions, begun, commit)
    }

    /// Rolls back and waits for it; dropping does the same later.
    pub async fn rollback(self) {
        match self.inner {
            Inner::Sqlite(tx) => drop(tx),
            Inner::Postgres(tx) => tx.rollback().await,
        }
    }

    fn enter(&mut self, s: &Statement) -> Result<(), Error> {
        match self.spent {
            Some(name) => Err(spoilt(name)),
            None => {
                // Stays when the future is dropped half way, so such a transaction cannot commit.
                self.spent = Some(s.name);
                self.calls.ask()
            }
        }
    }

    fn leave<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_ok() {
            self.spent = None;
        }
        result
    }
}

fn spoilt(name: &str) -> Error {
    Error::Other(format!("the transaction is spent since {name} failed in it"))
}
