//! SQLite: a pool of readers and one writer task.

mod bind;
mod connect;
mod lock;
mod queue;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub(crate) use bind::fetch_all;
pub(crate) use transaction::SqliteTx;

use crate::{Args, Error, Options, Priority, Statement};
use queue::{Queue, Work};

/// An open SQLite store. Dropped, its writer finishes what is queued and ends.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) readers: SqlitePool,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    queue: Queue,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sqlite {
    pub(crate) async fn open(path: PathBuf, options: &Options) -> Result<Self, Error> {
        let lock = lock::acquire(&path, options.acquire_timeout.min(lock::WAIT_MAX)).await?;
        let connection = connect::writer(&path).await?;
        let readers = connect::readers(&path, options, false).await?;
        let (queue, work) = queue::channel(options);
        let writer = writer::start(path, connection, work, options.clone(), lock);
        let task = Mutex::new(Some(tokio::spawn(writer)));
        Ok(Self { readers, writer: Some(Writer { queue, task }) })
    }

    pub(crate) async fn open_read_only(path: PathBuf, options: &Options) -> Result<Self, Error> {
        let readers = connect::readers(&path, options, true).await?;
        Ok(Self { readers, writer: None })
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
            if let Some(task) = writer.task.lock().await.take()
                && let Err(error) = task.await
            {
                tracing::error!(%error, "the catalog's writer ended badly");
            }
        }
        self.readers.close().await;
    }
}
