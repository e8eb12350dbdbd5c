//! A bus between processes of one machine, over a Unix socket: every hint goes to the server and from
//! there to all clients. For tests with several server processes; at scale the bus is a message broker.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use crate::local::LocalBus;
use crate::{Bus, Subscription, Topic};

/// How long until a broken connection is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Hints on their way out of a process; more are lost, as hints may be.
const OUTGOING_MAX: usize = 8192;
/// Hints a client may be behind; then its connection is closed, and it gets a gap.
const BEHIND_MAX: usize = 65_536;
const HINT_BYTES_MAX: usize = 16 << 20;

type Frames = Framed<UnixStream, LengthDelimitedCodec>;

/// Hands every hint of every client to all clients.
pub struct Server {
    listener: UnixListener,
    hints: broadcast::Sender<Bytes>,
}

impl Server {
    /// Listens at `path`; a socket left there is replaced.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let hints = broadcast::Sender::new(BEHIND_MAX);
                Ok(Self { listener: UnixListener::bind(path)?, hints })
            }
        }
    }

    /// Serves until `shutdown`; open connections end with it.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                Ok((socket, _)) = self.listener.accept() => {
                    connections.spawn(serve(frames(socket), self.hints.clone()));
                }
            }
        }
        connections.shutdown().await;
    }
}

async fn serve(mut frames: Frames, hints: broadcast::Sender<Bytes>) {
    let mut others = hints.subscribe();
    loop {
        tokio::select! {
            hint = frames.next() => match hint {
                Some(Ok(hint)) => drop(hints.send(hint.freeze())),
                _ => return,
            },
            // Lagging is an error too: the client reconnects and has its gap.
            hint = others.recv() => match hint {
                Ok(hint) => if frames.send(hint).await.is_err() { return },
                Err(_) => return,
            },
        }
    }
}

/// A bus in another process. Connects by itself, and again after the other end restarted; after each
/// connect every subscriber gets a gap.
pub struct Client {
    local: Arc<LocalBus>,
    outgoing: mpsc::Sender<Bytes>,
    link: JoinHandle<()>,
}

impl Client {
    /// A client of the server at `path`, which need not be there yet. Within a tokio runtime.
    #[must_use]
    pub fn new(path: &Path, capacity: usize) -> Arc<Self> {
        let local = LocalBus::new(capacity);
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let link = tokio::spawn(link(path.to_owned(), queue, local.clone()));
        Arc::new(Self { local, outgoing, link })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.link.abort();
    }
}

impl Bus for Client {
    fn publish(&self, topic: Topic, content: Bytes) {
        // Full or gone: the hint is lost, which a bus may do.
        let _ = self.outgoing.try_send(encode(&topic, &content));
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        self.local.subscribe(topics)
    }
}

async fn link(path: PathBuf, mut outgoing: mpsc::Receiver<Bytes>, local: Arc<LocalBus>) {
    loop {
        if let Ok(socket) = UnixStream::connect(&path).await {
            let mut frames = frames(socket);
            local.gap();
            loop {
                tokio::select! {
                    hint = outgoing.recv() => match hint {
                        Some(hint) => if frames.send(hint).await.is_err() { break },
                        None => return,
                    },
                    hint = frames.next() => match hint {
                        Some(Ok(hint)) => if let Some((topic, content)) = decode(hint.freeze()) {
                            local.publish(topic, content);
                        },
                        _ => break,
                    },
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn frames(socket: UnixStream) -> Frames {
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(HINT_BYTES_MAX);
    Framed::new(socket, codec.new_codec())
}

fn encode(topic: &Topic, content: &Bytes) -> Bytes {
    let topic = serde_json::to_vec(topic).unwrap_or_default();
    let mut out = BytesMut::with_capacity(4 + topic.len() + content.len());
    out.put_u32(u32::try_from(topic.len()).unwrap_or_default());
    out.put_slice(&topic);
    out.put_slice(content);
    out.freeze()
}

fn decode(mut hint: Bytes) -> Option<(Topic, Bytes)> {
    let length = hint.try_get_u32().ok()? as usize;
    if length > hint.len() {
        return None;
    }
    let topic = serde_json::from_slice(&hint.split_to(length)).ok()?;
    Some((topic, hint))
}
