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

use super::connection::{Shared, run};
use super::sources::Sources;
use super::{ListenerOptions, Opening, Protocol, Shutdown};
use crate::{Metrics, Refusal};

/// After the listener closes, connections have this long to finish what they are in the middle of.
const DRAIN: Duration = Duration::from_secs(10);
/// How often protocols are asked to close theirs meanwhile.
const CLOSE_EVERY: Duration = Duration::from_millis(100);

/// Serves agents until `shutdown`: those of each protocol, and whatever else `fallback` answers, which
/// finds the peer's address as [`ConnectInfo`](axum::extract::ConnectInfo) of a [`SocketAddr`].
///
/// The TLS configuration may be swapped at any time; connections keep the one they began with. When as
/// many handshakes are under way as allowed nothing is accepted until one is done: the kernel's
/// backlog waits, which every agent takes better than a connection that is closed on it.
///
/// After `shutdown` connections have ten seconds, and are dropped then.
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
    let accept = async {
        loop {
            let permit = Arc::clone(&shared.handshakes).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let Some((tcp, peer)) = accept(&listener).await else { continue };
            let tls = TlsAcceptor::from(tls.load_full());
            admit(&shared, &tasks, &hard, tcp, peer, tls, permit);
        }
    };
    shutdown.run_until_cancelled(accept).await;
    drop(listener);
    ending.begin();
    tasks.close();
    let drained = timeout(DRAIN, async {
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

/// Starts a connection's task, unless there are too many already.
fn admit(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    hard: &Shutdown,
    tcp: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    permit: OwnedSemaphorePermit,
) {
    let Shared { options, metrics, sources, openings, .. } = &**shared;
    if tasks.len() >= options.connections_max {
        return metrics.refused(Refusal::Connections);
    }
    let (mut place, mut opening_place) = (None, None);
    if !options.proxies.exempts(peer.ip()) {
        place = sources.enter(peer.ip());
        // One address that opens and says nothing would keep everybody else from being accepted.
        opening_place = openings.enter(peer.ip());
        if place.is_none() || opening_place.is_none() {
            return metrics.refused(Refusal::ConnectionsOfSource);
        }
    }
    let opening = Opening { _permit: permit, _place: opening_place };
    metrics.connections.inc();
    let (open, hard) = (Open::new(metrics), hard.clone());
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let (_open, _place) = (open, place);
        let mut dropped = pin!(hard.begun());
        let mut served = pin!(run(shared, tcp, peer, tls, opening));
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
