//! SQLite: a pool of readers and one writer task.

mod bind;
mod checkpoint;
mod connect;
mod lock;
mod queue;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub(crate) use bind::{fetch_all, fetch_text};
pub(crate) use transaction::SqliteTx;

use crate::{Args, Error, Options, Priority, Statement};
use queue::{Queue, Work};

/// An open SQLite store. Dropped, its writer finishes what is queued and ends.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) readers: SqlitePool,
    writer: Option<Writer>,
    /// For single statements beside the process that writes.
    beside: Option<Mutex<SqliteConnection>>,
}

#[derive(Debug)]
struct Writer {
    queue: Queue,
    /// The writer and the checkpoint.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Sqlite {
    pub(crate) async fn open(path: PathBuf, options: &Options) -> Result<Self, Error> {
        let lock = lock::acquire(&path, options.acquire_timeout.min(lock::WAIT_MAX)).await?;
        let connection = connect::writer(&path).await?;
        let readers = connect::readers(&path, options, false).await?;
        let carrier = checkpoint::open(&path).await?;
        let (queue, work) = queue::channel(options);
        let commits = Arc::<AtomicU64>::default();
        let carry = checkpoint::start(carrier, commits.clone(), queue.closing());
        let writer = writer::start(path, connection, work, options.clone(), commits, lock);
        let tasks = Mutex::new(vec![tokio::spawn(carry), tokio::spawn(writer)]);
        Ok(Self { readers, writer: Some(Writer { queue, tasks }), beside: None })
    }

    pub(crate) async fn open_read_only(path: PathBuf, options: &Options) -> Result<Self, Error> {
        let readers = connect::readers(&path, options, true).await?;
        Ok(Self { readers, writer: None, beside: None })
    }

    /// For reading, and for single short statements, for which SQLite itself keeps processes apart.
    pub(crate) async fn open_beside(path: PathBuf, options: &Options) -> Result<Self, Error> {
        let readers = connect::readers(&path, options, true).await?;
        let beside = Some(Mutex::new(connect::beside(&path).await?));
        Ok(Self { readers, writer: None, beside })
    }

    /// A unit of the writer's group commit.
    pub(crate) async fn begin(
        &self,
        priority: Priority,
        hold: Option<Duration>,
    ) -> Result<SqliteTx, Error> {
        let (grant, granted) = tokio::sync::oneshot::channel();
        self.writer()?.queue.push(priority, Work::Transaction { grant, hold }).await?;
        granted.await.map_err(|_| Error::closed())?
    }

    /// One statement, without the cost of a savepoint.
    pub(crate) async fn execute_one(
        &self,
        priority: Priority,
        statement: Statement,
        args: Args,
    ) -> Result<u64, Error> {
        if let Some(beside) = &self.beside {
            return bind::execute(&mut *beside.lock().await, &statement, args).await;
        }
        let (done, answer) = tokio::sync::oneshot::channel();
        self.writer()?.queue.push(priority, Work::One { statement, args, done }).await?;
        answer.await.map_err(|_| Error::closed())?
    }

    fn writer(&self) -> Result<&Writer, Error> {
        self.writer
            .as_ref()
            .ok_or_else(|| Error::Other("the catalog was opened for reading only".to_owned()))
    }

    pub(crate) async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.queue.close();
            for task in writer.tasks.lock().await.drain(..) {
                if let Err(error) = task.await {
                    tracing::error!(%error, "the catalog's writer ended badly");
                }
            }
        }
        self.readers.close().await;
    }
}

async fn run(connection: &mut SqliteConnection, text: &'static str) -> Result<(), Error> {
    let done = sqlx::query(text).execute(connection).await;
    done.map(drop).map_err(|error| Error::of(text, &error))
}
