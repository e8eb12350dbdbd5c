//! The catalog itself: one of two databases.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::calls::Calls;
use crate::postgres::Postgres;
use crate::sqlite::{self, Sqlite};
use crate::tx::Inner;
use crate::{
    Args, Database, Error, Options, Pool, Priority, Program, Row, Statement, Stats, Status, Tx,
    feed, migrate,
};
use muster_types::Timestamp;
use tracing::Instrument as _;

/// A handle to the catalog; cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    store: Arc<Store>,
    calls: Arc<Calls>,
    program: Arc<Program>,
    stale: bool,
}

#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(Sqlite),
    Postgres(Postgres),
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
            None => Store::Postgres(Postgres::open(url, &options, false).await?),
        };
        Self::new(store, options).verified().await
    }

    /// Opens an existing store for reading, also while another process writes to it.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_read_only(url: &str) -> Result<Self, Error> {
        Self::open_read_only_with(url, Options { connections_max: 2, ..Options::default() }).await
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_read_only_with(url: &str, options: Options) -> Result<Self, Error> {
        let store = match sqlite_path(url)? {
            Some(path) => Store::Sqlite(Sqlite::open_read_only(path, &options).await?),
            None => Store::Postgres(Postgres::open(url, &options, true).await?),
        };
        Self::new(store, options).verified().await
    }

    /// Opens an existing store for reading and for single short statements ([`Catalog::execute`]), also
    /// while another process writes to it: for what people do beside a running server.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_beside(url: &str) -> Result<Self, Error> {
        let options = Options { connections_max: 2, ..Options::default() };
        let store = match sqlite_path(url)? {
            Some(path) => Store::Sqlite(Sqlite::open_beside(path, &options).await?),
            None => Store::Postgres(Postgres::open(url, &options, false).await?),
        };
        Self::new(store, options).verified().await
    }

    fn new(store: Store, options: Options) -> Self {
        let (store, program) = (Arc::new(store), Arc::new(options.program));
        Self { store, calls: Arc::default(), program, stale: false }
    }

    /// A handle whose reads outside transactions may be some seconds behind ([`Options::stale_max`]):
    /// they go to a replica where there is one that follows closely enough. Changes go where they always
    /// go. For lists of what is past, never for what a decision rests on.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { stale: true, ..self.clone() }
    }

    /// Whether the database can be reached, as far as the last call has found out.
    #[must_use]
    pub fn is_available(&self) -> bool {
        match &*self.store {
            Store::Sqlite(_) => true,
            Store::Postgres(store) => store.is_up(),
        }
    }

    /// How often the database was asked, through this handle and its clones: reads, single statements
    /// and transactions. That something needs no database can only be shown by counting.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.made()
    }

    /// What this catalog measures of itself, all handles together.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.calls.stats
    }

    /// Connections to the database in use; of SQLite those for reading.
    #[must_use]
    pub fn pool(&self) -> Pool {
        match &*self.store {
            Store::Sqlite(store) => Pool {
                open: store.readers.size(),
                idle: u32::try_from(store.readers.num_idle()).unwrap_or(u32::MAX),
                allowed: store.readers.options().get_max_connections(),
            },
            Store::Postgres(store) => store.pool_now(),
        }
    }

    /// From now on only so many more questions are answered, each statement of a transaction being one:
    /// then the database is away for all handles, until this is set anew. To show what callers make of
    /// that at every point.
    #[doc(hidden)]
    pub fn away_after(&self, questions: Option<u64>) {
        self.calls.away_after(questions);
    }

    /// The commit with this number from now on, beginning with 1, happens, and its answer is lost on the way;
    /// 0 for none. Whether the one that was named before has been reached. To show what callers make of it.
    #[doc(hidden)]
    pub fn lose_commit(&self, commit: u64) -> bool {
        self.calls.lose_commit(commit)
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

    /// Applies the migrations that expand. Any number of processes may call it at once; one of them is told
    /// that the store was empty.
    ///
    /// # Errors
    /// [`Error::Refused`] when the store asks for a newer program or was made from other migrations.
    pub async fn migrate(&self) -> Result<bool, Error> {
        migrate::run(self).await
    }

    /// Applies the migrations that contract, and names them.
    ///
    /// # Errors
    /// [`Error::Refused`] while a server lives that is too old for them; its text names it.
    pub async fn contract(&self) -> Result<Vec<&'static str>, Error> {
        migrate::contract(self).await
    }

    /// How far the store is migrated.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn migrations(&self) -> Result<Status, Error> {
        migrate::status(self).await
    }

    /// Whether this program may (still) use the store. Asked anew by one that was away for long.
    ///
    /// # Errors
    /// [`Error::Refused`] when it may not.
    pub async fn verify(&self) -> Result<(), Error> {
        migrate::verify(self).await
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
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
        self.calls.count()?;
        let (begun, stats) = (Instant::now(), &self.calls.stats);
        let span = tracing::info_span!(target: "muster::span", "catalog read", statement = s.name);
        let read = async {
            match &*self.store {
                Store::Sqlite(store) => sqlite::fetch_all(&store.readers, s, args).await,
                Store::Postgres(store) if self.stale => store.fetch_stale(s, &args).await,
                Store::Postgres(store) => store.fetch_all(s, &args).await,
            }
        };
        stats.seen(&stats.reads, begun, Box::pin(read.instrument(span)).await)
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
        self.calls.count()?;
        let span = tracing::info_span!(target: "muster::span", "catalog transaction", ?priority);
        let begun = Instant::now();
        let begin = async {
            let _waiting = self.calls.stats.waiting.during();
            Ok(match &*self.store {
                Store::Sqlite(store) => Inner::Sqlite(store.begin(priority, hold).await?),
                Store::Postgres(store) => Inner::Postgres(store.begin(priority).await?),
            })
        };
        let inner = Box::pin(begin).await.inspect_err(|error| self.calls.stats.failure(error))?;
        Ok(Tx::new(inner, self.calls.clone(), begun, span))
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
        self.calls.count()?;
        let (begun, stats) = (Instant::now(), &self.calls.stats);
        let span =
            tracing::info_span!(target: "muster::span", "catalog statement", statement = s.name);
        let executed = async {
            let _waiting = stats.waiting.during();
            match &*self.store {
                Store::Sqlite(store) => store.execute_one(priority, *s, args).await,
                Store::Postgres(store) => store.execute(priority, s, args).await,
            }
        };
        stats.seen(&stats.statements, begun, Box::pin(executed.instrument(span)).await)
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
            Store::Postgres(store) => store.close().await,
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
