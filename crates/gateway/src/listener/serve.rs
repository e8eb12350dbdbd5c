//! Accepting, and ending.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Accepted, Shared, run};
use super::sources::Sources;
use super::{ListenerOptions, Opening, Protocol, Shutdown};
use crate::{Metrics, Refusal};

/// How often protocols are asked to close theirs meanwhile.
const CLOSE_EVERY: Duration = Duration::from_millis(100);

/// Serves agents until `shutdown`: those of each protocol, and whatever else `fallback` answers, which
/// finds who opened the connection as [`ConnectInfo`](axum::extract::ConnectInfo) of a [`SocketAddr`].
///
/// The TLS configuration may be swapped at any time; connections keep the one they began with. When as
/// many connections are open, or handshakes under way, as allowed nothing is accepted until one is done:
/// the kernel's backlog waits, which every agent takes better than a connection that is closed on it.
///
/// After `shutdown` connections have [`ListenerOptions::drain_timeout`], and are dropped then.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    options: ListenerOptions,
    protocols: Vec<Arc<dyn Protocol>>,
    fallback: Router,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let ending = Shutdown::new();
    let shared = Arc::new(Shared {
        sources: Sources::new(options.per_source_max()),
        openings: Sources::new(options.openings_per_source_max()),
        handshakes: Arc::new(Semaphore::new(options.handshakes_max)),
        options,
        protocols,
        fallback,
        metrics,
        shutdown: ending.clone(),
    });
    let (tasks, hard) = (TaskTracker::new(), Shutdown::new());
    let places = Arc::new(Semaphore::new(shared.options.connections_max));
    let accept = async {
        loop {
            if places.available_permits() == 0 {
                shared.metrics.refused(Refusal::Connections);
            }
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            let permit = Arc::clone(&shared.handshakes).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let Some((tcp, peer)) = accept(&listener).await else { continue };
            let tls = TlsAcceptor::from(tls.load_full());
            let room = Room { place, handshake: permit };
            admit(&shared, &tasks, &hard, tcp, peer, tls, room);
        }
    };
    shutdown.run_until_cancelled(accept).await;
    drop(listener);
    ending.begin();
    tasks.close();
    let drained = timeout(shared.options.drain_timeout, async {
        while !tasks.is_empty() {
            shared.protocols.iter().for_each(|protocol| protocol.close());
            let _ = timeout(CLOSE_EVERY, tasks.wait()).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!(open = tasks.len(), "connections did not end in time and are dropped");
    }
    hard.begin();
    tasks.wait().await;
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

/// What a connection had to wait for before it was accepted.
struct Room {
    /// Among all connections.
    place: OwnedSemaphorePermit,
    /// Among those that are being opened.
    handshake: OwnedSemaphorePermit,
}

/// Starts a connection's task, unless its address has too many.
fn admit(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    hard: &Shutdown,
    tcp: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    room: Room,
) {
    let metrics = &shared.metrics;
    let Ok((place, opening_place)) = shared.places(peer) else { return };
    let opening = Opening { _permit: room.handshake, _place: opening_place };
    let accepted = Accepted { tcp, peer, tls, opening };
    metrics.connections.inc();
    let (open, hard) = (Open::new(metrics), hard.clone());
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let (_open, _place, _room) = (open, place, room.place);
        let mut dropped = pin!(hard.begun());
        let mut served = pin!(run(shared, accepted));
        let mut waits = false;
        // Not `select!`, which would poll `dropped`, and so take its lock, whenever anything happens.
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut waits, true) {
                let _ = dropped.as_mut().poll(cx);
            }
            if hard.is_begun() {
                return std::task::Poll::Ready(());
            }
            served.as_mut().poll(cx)
        })
        .await;
    });
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections_open.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections_open.dec();
    }
}
