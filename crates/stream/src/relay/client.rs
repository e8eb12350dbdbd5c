//! The processes that use it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_types::{Pos, Record, Shard};
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::wire::{Answer, Connection, Request};
use crate::{AppendError, Entry, Pressure, ReadError, Reader, Stream};

/// How long until a broken connection is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// Connections kept for the next append.
const IDLE_MAX: usize = 16;

/// A stream in another process. Connects when it is used, and again after the other end restarted.
pub struct Client {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    pressure: watch::Sender<Pressure>,
    watcher: JoinHandle<()>,
}

impl Client {
    /// A client of the server at `path`, which need not be there yet. Within a tokio runtime.
    #[must_use]
    pub fn new(path: &Path) -> Arc<Self> {
        let pressure = watch::Sender::default();
        let watcher = tokio::spawn(watch_pressure(path.to_owned(), pressure.clone()));
        Arc::new(Self { path: path.to_owned(), idle: Mutex::default(), pressure, watcher })
    }

    /// One request and its answer. A dropped call drops the connection with it.
    async fn ask(&self, request: &Request) -> io::Result<Answer> {
        let idle = self.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path).await?,
        };
        connection.request(request).await?;
        let answer = connection.answer().await.inspect_err(|_| self.idle.lock().clear())?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(answer)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

async fn connect(path: &Path) -> io::Result<Connection> {
    UnixStream::connect(path).await.map(Connection::new)
}

async fn watch_pressure(path: PathBuf, pressure: watch::Sender<Pressure>) {
    loop {
        if let Ok(mut connection) = connect(&path).await
            && connection.request(&Request::Pressure).await.is_ok()
        {
            while let Ok(Answer::Pressure(now)) = connection.answer().await {
                pressure.send_replace(now);
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[async_trait]
impl Stream for Client {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Pos>, AppendError> {
        match self.ask(&Request::Append(records)).await {
            Ok(Answer::Appended(positions)) => Ok(positions),
            Ok(Answer::Full(retry_after)) => Err(AppendError::Full { retry_after }),
            Ok(Answer::Unavailable(why)) => Err(AppendError::Unavailable(why)),
            Ok(other) => Err(AppendError::Unavailable(format!("unexpected answer {other:?}"))),
            Err(error) => Err(AppendError::Unavailable(format!("relay: {error}"))),
        }
    }

    async fn reader(&self, after: Vec<(Shard, Pos)>) -> Result<Box<dyn Reader>, ReadError> {
        let lost = |error| ReadError::Unavailable(format!("relay: {error}"));
        let mut connection = connect(&self.path).await.map_err(lost)?;
        connection.request(&Request::Read(after)).await.map_err(lost)?;
        match connection.answer().await.map_err(lost)? {
            Answer::Done => Ok(Box::new(ClientReader { connection, asked: false })),
            other => Err(read_error(other)),
        }
    }

    async fn trim(&self, shard: Shard, upto: Pos) {
        // Monotone and repeated by whoever trims; a lost one costs room for a while.
        if let Err(error) = self.ask(&Request::Trim(shard, upto)).await {
            tracing::debug!(%error, "a trim was lost");
        }
    }

    fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.subscribe()
    }
}

struct ClientReader {
    connection: Connection,
    /// A request without its answer yet, perhaps from a dropped call.
    asked: bool,
}

#[async_trait]
impl Reader for ClientReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let lost = |error| ReadError::Unavailable(format!("relay: {error}"));
        if !self.asked {
            // Set first: the request is small and goes out whole, also when the call is dropped.
            self.asked = true;
            self.connection.request(&Request::Next(max_bytes)).await.map_err(lost)?;
        }
        let answer = self.connection.answer().await.map_err(lost)?;
        self.asked = false;
        match answer {
            Answer::Entries(entries) => Ok(entries),
            other => Err(read_error(other)),
        }
    }
}

fn read_error(answer: Answer) -> ReadError {
    match answer {
        Answer::Trimmed(shard, after, oldest) => ReadError::TrimmedBelow { shard, after, oldest },
        Answer::Unavailable(why) => ReadError::Unavailable(why),
        other => ReadError::Unavailable(format!("unexpected answer {other:?}")),
    }
}
