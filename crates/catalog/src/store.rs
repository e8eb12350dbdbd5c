//! The catalog itself: one of two databases.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use muster_types::Timestamp;
use sqlx::PgPool;

use crate::postgres::{self, PostgresTx};
use crate::sqlite::{self, Sqlite};
use crate::tx::Inner;
use crate::{Args, Database, Error, Options, Priority, Row, Statement, Tx, feed, migrate};

/// A handle to the catalog; cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    store: Arc<Store>,
    calls: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(Sqlite),
    Postgres(PgPool),
}

impl Catalog {
    /// Opens `sqlite:///abs/path.db` (created when missing) or `postgres://…`. Does not migrate.
    ///
    /// # Errors
    /// [`Error::Refused`] for a store that this program must not use: one that another process
    /// writes to, a newer one, one made with another layout; its text says what to do.
    /// [`Error::Unavailable`] when the database cannot be reached.
    pub async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let store = match sqlite_path(url)? {
            Some(path) => Store::Sqlite(Sqlite::open(path, &options).await?),
            None => Store::Postgres(postgres::open(url, &options, false).await?),
        };
        Self::new(store).verified().await
    }

    /// Opens an existing store for reading, also while another process writes to it.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_read_only(url: &str) -> Result<Self, Error> {
        let options = Options { connections_max: 2, ..Options::default() };
        let store = match sqlite_path(url)? {
            Some(path) => Store::Sqlite(Sqlite::open_read_only(path, &options).await?),
            None => Store::Postgres(postgres::open(url, &options, true).await?),
        };
        Self::new(store).verified().await
    }

    fn new(store: Store) -> Self {
        Self { store: Arc::new(store), calls: Arc::default() }
    }

    /// How often the database was asked, through this handle and its clones: reads, single statements
    /// and transactions. That something needs no database can only be shown by counting.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    async fn verified(self) -> Result<Self, Error> {
        match migrate::verify(&self).await {
            Ok(()) => Ok(self),
            Err(error) => {
                self.close().await;
                Err(error)
            }
        }
    }

    /// Brings the layout up to this program's. Any number of processes may call it at once.
    ///
    /// # Errors
    /// [`Error::Refused`] when the store is newer or was made from other migrations.
    pub async fn migrate(&self) -> Result<(), Error> {
        migrate::run(self).await
    }

    /// Which database this is.
    #[must_use]
    pub fn database(&self) -> Database {
        match &*self.store {
            Store::Sqlite(_) => Database::Sqlite,
            Store::Postgres(_) => Database::Postgres,
        }
    }

    /// All rows of an answer, read outside any transaction.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn fetch_all(&self, s: &Statement, args: Args) -> Result<Vec<Row>, Error> {
        self.count();
        match &*self.store {
            Store::Sqlite(store) => sqlite::fetch_all(&store.readers, s, args).await,
            Store::Postgres(pool) => postgres::fetch_all(pool, s, args).await,
        }
    }

    /// The first row of an answer, read outside any transaction.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn fetch_optional(&self, s: &Statement, args: Args) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(s, args).await?.into_iter().next())
    }

    /// Begins a write transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is gone or too busy.
    ///
    /// # Cancel safety
    /// Safe: nothing has happened yet.
    pub async fn begin(&self, priority: Priority) -> Result<Tx, Error> {
        self.begin_for(priority, None).await
    }

    /// A transaction that may hold SQLite's writer for longer than others.
    pub(crate) async fn begin_for(
        &self,
        priority: Priority,
        hold: Option<Duration>,
    ) -> Result<Tx, Error> {
        self.count();
        Ok(Tx::new(match &*self.store {
            Store::Sqlite(store) => Inner::Sqlite(store.begin(priority, hold).await?),
            Store::Postgres(pool) => Inner::Postgres(PostgresTx::begin(pool).await?),
        }))
    }

    /// One durable statement: begin, execute and commit. Returns how many rows changed.
    ///
    /// # Errors
    /// Any [`Error`].
    ///
    /// # Cancel safety
    /// Dropped half way it may or may not have happened.
    pub async fn execute(
        &self,
        priority: Priority,
        s: &Statement,
        args: Args,
    ) -> Result<u64, Error> {
        self.count();
        match &*self.store {
            Store::Sqlite(store) => store.execute_one(priority, *s, args).await,
            Store::Postgres(pool) => postgres::execute(pool, s, args).await,
        }
    }

    /// Database time.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let row = self.fetch_optional(&feed::NOW, Args::new()).await?;
        row.ok_or_else(|| Error::Other("the database does not tell the time".to_owned()))?
            .get("now")
    }

    /// Ends what is queued and closes all connections. Later calls fail.
    pub async fn close(&self) {
        match &*self.store {
            Store::Sqlite(store) => store.close().await,
            Store::Postgres(pool) => pool.close().await,
        }
    }
}

/// The file of a SQLite URL; `None` for PostgreSQL.
fn sqlite_path(url: &str) -> Result<Option<PathBuf>, Error> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        let path = PathBuf::from(path);
        if path.is_absolute() {
            return Ok(Some(path));
        }
        return Err(Error::Refused(format!("the catalog path {} is not absolute", path.display())));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(None);
    }
    Err(Error::Refused("the catalog URL must begin with sqlite:// or postgres://".to_owned()))
}
