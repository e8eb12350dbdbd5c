//! The operators' listener: TLS, HTTP/1.1 and HTTP/2, with bounds on who may wait how long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; people and programs, not agents.
const CONNECTIONS_MAX: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After the listener closes, requests have this long to finish.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves `router` until `shutdown`, then lets requests in flight finish within ten seconds.
///
/// At the bound on connections nothing is accepted until one is closed; the kernel's backlog waits.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    router: Router,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (tasks, hard) = (TaskTracker::new(), CancellationToken::new());
    let accept = async {
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let slot = slot.expect("the semaphore is never closed");
            let (tcp, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let router = router.clone().layer(axum::Extension(ConnectInfo(peer)));
            let acceptor = TlsAcceptor::from(tls.load_full());
            let (soft, hard) = (shutdown.clone(), hard.clone());
            tasks.spawn(async move {
                let connection = Box::pin(connection(tcp, acceptor, router, soft));
                hard.run_until_cancelled(connection).await;
                drop(slot);
            });
        }
    };
    let _: Option<Infallible> = shutdown.run_until_cancelled(accept).await;
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(open = tasks.len(), "requests did not end in time and are dropped");
    }
    hard.cancel();
    tasks.wait().await;
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, router: Router, soft: CancellationToken) {
    let _ = tcp.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await else {
        return;
    };
    // By what TLS agreed on: guessing from the first bytes would wait for them without an end.
    let builder = Builder::new(TokioExecutor::new());
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let mut builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = soft.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
