//! The agents' listener: TLS, and then either a link or ordinary HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muster_gateway::{CloseReason, Refusal};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::head::{Opening, Rewound, read_opening};
use crate::{NativeState, link};

/// After the listener closes, links have this long to finish what they write.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves agents until `shutdown`: their links, enrolment, and whatever else `fallback` answers.
///
/// The TLS configuration may be swapped at any time; connections keep the one they began with. When as
/// many handshakes are under way as allowed nothing is accepted until one is done: the kernel's
/// backlog waits, which every agent takes better than a connection that is closed on it.
///
/// On shutdown links are closed with a jittered time to return; after ten seconds they are dropped.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    state: Arc<NativeState>,
    fallback: Router,
    shutdown: CancellationToken,
) {
    let router = crate::router(Arc::clone(&state)).merge(fallback);
    let handshakes = Arc::new(Semaphore::new(state.options.handshakes_max));
    let (tasks, hard) = (TaskTracker::new(), CancellationToken::new());
    let accept = async {
        loop {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let Some((tcp, peer)) = accept(&listener).await else { continue };
            if tasks.len() >= state.options.connections_max {
                state.metrics.refused(Refusal::Connections);
                continue;
            }
            state.metrics.connections.inc();
            let tls = TlsAcceptor::from(tls.load_full());
            let connection = Connection {
                peer,
                state: Arc::clone(&state),
                router: router.clone(),
                shutdown: shutdown.clone(),
            };
            let (hard, open) = (hard.clone(), Open::new(&state));
            tasks.spawn(async move {
                let _open = open;
                // Not `run_until_cancelled`, whose future has room for the connection's twice.
                tokio::select! {
                    () = connection.run(tcp, tls, permit) => {}
                    () = hard.cancelled() => {}
                }
            });
        }
    };
    shutdown.run_until_cancelled(accept).await;
    drop(listener);
    tasks.close();
    let drained = timeout(DRAIN, async {
        while !tasks.is_empty() {
            // Again and again: those that were in their handshake register later.
            state.sessions.close_all(CloseReason::Shutdown);
            let _ = timeout(Duration::from_millis(100), tasks.wait()).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!(open = tasks.len(), "links did not end in time and are dropped");
    }
    hard.cancel();
    tasks.wait().await;
}

/// Counts a connection for as long as it lives.
struct Open(Arc<muster_gateway::Metrics>);

impl Open {
    fn new(state: &NativeState) -> Self {
        state.metrics.connections_open.inc();
        Self(Arc::clone(&state.metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.dec();
    }
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            // Out of descriptors, mostly: trying again at once would only burn.
            tracing::warn!(%error, "connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

struct Connection {
    peer: SocketAddr,
    state: Arc<NativeState>,
    router: Router,
    shutdown: CancellationToken,
}

type Tls = Box<TlsStream<TcpStream>>;

impl Connection {
    async fn run(self, tcp: TcpStream, tls: TlsAcceptor, permit: OwnedSemaphorePermit) {
        // Boxed and dropped when done: a link that idles for days keeps nothing of it.
        let opened = Box::pin(open(tcp, tls, self.state.options.handshake_timeout)).await;
        drop(permit);
        match opened {
            Ok((Opening::Link(_), io)) => {
                let Self { peer, state, router, .. } = self;
                drop(router);
                link::run(io, peer, &state).await;
            }
            Ok((Opening::Http(first), io)) => Box::pin(self.http(first, io)).await,
            Ok((Opening::BadLink(_), _)) | Err(_) => self.state.metrics.handshakes_failed.inc(),
        }
    }

    async fn http(self, first: bytes::Bytes, io: Tls) {
        let service = self.router.layer(axum::Extension(ConnectInfo(self.peer)));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.state.options.handshake_timeout)
            .max_buf_size(64 << 10)
            .serve_connection(
                TokioIo::new(Rewound::new(first, io)),
                TowerToHyperService::new(service),
            );
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

/// TLS and the first request, each in its time; a link's upgrade is answered as well.
async fn open(tcp: TcpStream, tls: TlsAcceptor, time: Duration) -> io::Result<(Opening, Tls)> {
    tcp.set_nodelay(true)?;
    let mut io = Box::new(timeout(time, tls.accept(tcp)).await??);
    let opening = timeout(time, read_opening(&mut io)).await??;
    let answer: &[u8] = match &opening {
        Opening::Link(answer) => answer,
        Opening::BadLink(answer) => answer,
        Opening::Http(_) => &[],
    };
    if !answer.is_empty() {
        let write = async {
            io.write_all(answer).await?;
            io.flush().await
        };
        timeout(time, write).await??;
    }
    Ok((opening, io))
}
