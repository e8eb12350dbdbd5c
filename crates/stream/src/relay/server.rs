//! The process that has the stream.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wire::{Answer, Connection, Request};
use crate::{Reader, Stream};

/// Lets other processes use a stream.
pub struct Server {
    listener: UnixListener,
    stream: Arc<dyn Stream>,
}

impl Server {
    /// Listens at `path`; a socket left there is replaced.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(path: &Path, stream: Arc<dyn Stream>) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Self { listener: UnixListener::bind(path)?, stream }),
        }
    }

    /// Serves until `shutdown`; open connections end with it.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let connection = Connection::new(socket);
                        connections.spawn(serve(connection, self.stream.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept");
                        tokio::task::yield_now().await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}

/// Until the client leaves.
async fn serve(mut connection: Connection, stream: Arc<dyn Stream>) {
    let mut reader = None;
    while let Ok(message) = connection.receive().await {
        let Some(request) = Request::decode(message) else { return };
        let answer = match request {
            Request::Append(records) => match stream.append(records).await {
                Ok(positions) => Answer::Appended(positions),
                Err(error) => error.into(),
            },
            Request::Trim(shard, upto) => {
                stream.trim(shard, upto).await;
                Answer::Done
            }
            Request::Read(after) => match stream.reader(after).await {
                Ok(made) => {
                    reader = Some(made);
                    Answer::Done
                }
                Err(error) => error.into(),
            },
            Request::Next(max_bytes) => match &mut reader {
                Some(reader) => match next(&mut connection, reader, max_bytes).await {
                    Some(answer) => answer,
                    None => return,
                },
                None => return,
            },
            Request::Pressure => return tell_pressure(connection, &*stream).await,
        };
        if connection.send(answer.encode()).await.is_err() {
            return;
        }
    }
}

/// Waits for records, or for the client to leave: a client says nothing while it waits.
async fn next(
    connection: &mut Connection,
    reader: &mut Box<dyn Reader>,
    max_bytes: usize,
) -> Option<Answer> {
    tokio::select! {
        read = reader.next(max_bytes) => Some(match read {
            Ok(entries) => Answer::Entries(entries),
            Err(error) => error.into(),
        }),
        _ = connection.receive() => None,
    }
}

async fn tell_pressure(mut connection: Connection, stream: &dyn Stream) {
    let mut pressure = stream.pressure();
    loop {
        let now = *pressure.borrow_and_update();
        if connection.send(Answer::Pressure(now).encode()).await.is_err() {
            return;
        }
        tokio::select! {
            changed = pressure.changed() => if changed.is_err() { return },
            _ = connection.receive() => return,
        }
    }
}
