//! The operators' listener: TLS, HTTP/1.1 and HTTP/2, with bounds on who may wait how long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderValue, Request, header};
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use muster_api::{ClientAddress, Through};
use muster_gateway::Metrics;
use muster_gateway::listener::Front;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::Ready;

/// Connections at once; people and programs, not agents.
const CONNECTIONS_MAX: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After the listener closes, requests have this long to finish.
const DRAIN: Duration = Duration::from_secs(10);
/// While it starts, how often it is asked whether it is ready.
const READY_EVERY: Duration = Duration::from_millis(20);
/// And who has connected just before that, this long to say what for.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// What serves operators.
pub struct Operators {
    /// For every new connection.
    pub tls: Arc<ArcSwap<rustls::ServerConfig>>,
    /// What stands in front.
    pub front: Front,
    /// Answers.
    pub router: Router,
    /// False from the begin of a drain: whoever keeps a connection is told to take another one.
    pub ready: Ready,
    /// Counts what balancers do wrong.
    pub metrics: Arc<Metrics>,
}

impl Operators {
    /// Serves until `shutdown`, then lets requests in flight finish within ten seconds.
    ///
    /// At the bound on connections nothing is accepted until one is closed; the kernel's backlog waits.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (tasks, hard) = (TaskTracker::new(), CancellationToken::new());
        let start = |slot: OwnedSemaphorePermit, tcp: TcpStream, peer: SocketAddr| {
            let (this, soft, hard) = (Arc::clone(&this), shutdown.clone(), hard.clone());
            tasks.spawn(async move {
                let connection = Box::pin(this.connection(tcp, peer, soft));
                hard.run_until_cancelled(connection).await;
                drop(slot);
            });
        };
        let accept = async {
            // Who balances without asking whether we are ready is not refused meanwhile: it waits in the
            // kernel's backlog, or tries another instance.
            while !this.ready.get() {
                tokio::time::sleep(READY_EVERY).await;
            }
            loop {
                let slot = Arc::clone(&slots).acquire_owned().await;
                let slot = slot.expect("the semaphore is never closed");
                match listener.accept().await {
                    Ok((tcp, peer)) => start(slot, tcp, peer),
                    Err(error) => {
                        tracing::warn!(%error, "connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        let _: Option<Infallible> = shutdown.run_until_cancelled(accept).await;
        // Whoever the kernel has let in already would only see a reset.
        while let Ok(slot) = Arc::clone(&slots).try_acquire_owned()
            && let Some(Ok((tcp, peer))) = listener.accept().now_or_never()
        {
            start(slot, tcp, peer);
        }
        drop(listener);
        tasks.close();
        if timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!(open = tasks.len(), "requests did not end in time and are dropped");
        }
        hard.cancel();
        tasks.wait().await;
    }

    async fn connection(&self, mut tcp: TcpStream, peer: SocketAddr, soft: CancellationToken) {
        let tls = TlsAcceptor::from(self.tls.load_full());
        let opened = async {
            let client = self.front.client(&mut tcp, peer, &self.metrics).await?;
            std::io::Result::Ok((self.front.secure(tcp, peer, &tls).await?, client))
        };
        let Ok(Ok((stream, client))) = timeout(HANDSHAKE, opened).await else { return };
        // By what TLS agreed on: guessing from the first bytes would wait for them without an end.
        let builder = Builder::new(TokioExecutor::new());
        let is_h2 = stream.is_h2();
        let mut builder = if is_h2 { builder.http2_only() } else { builder.http1_only() };
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
        let router = TowerToHyperService::new(self.router.clone());
        let asked = CancellationToken::new();
        let (first, ready) = (asked.clone(), self.ready.clone());
        let proxies = self.front.proxies.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            first.cancel();
            let address = proxies.client(client.ip(), lines(request.headers()));
            request.extensions_mut().insert(ClientAddress(address));
            let trusted = self.front.proxies.trusts(client.ip());
            request.extensions_mut().insert(Through { peer: client, trusted });
            request.extensions_mut().insert(ConnectInfo(client));
            let (answer, ready) = (router.call(request), ready.clone());
            async move {
                let mut answer = answer.await?;
                // Before the listener closes: a pooled connection that ends while a request is on its
                // way looks like a failure to whoever sent it. HTTP/2 has a good-bye of its own.
                if !is_h2 && !ready.get() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = soft.cancelled() => {
                // A new connection has its first request on the way.
                tokio::select! {
                    _ = connection.as_mut() => return,
                    _ = timeout(FIRST_REQUEST, asked.cancelled()) => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

/// The lines of `X-Forwarded-For`, the newest first; one that is no text is nobody's address.
fn lines(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all("x-forwarded-for").into_iter().rev();
    lines.map(|line| line.to_str().unwrap_or_default())
}
