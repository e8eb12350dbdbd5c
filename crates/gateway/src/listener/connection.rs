//! One connection: its handshake, and who claims it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::fallback;
use super::sources::Sources;
use super::{FIRST_BYTES_MAX, ListenerOptions, Opened, Opening, Protocol, Shutdown, Tls};
use crate::Metrics;

/// What the connections of a listener share.
pub(super) struct Shared {
    pub(super) options: ListenerOptions,
    pub(super) protocols: Vec<Arc<dyn Protocol>>,
    pub(super) fallback: Router,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    pub(super) sources: Arc<Sources>,
    /// The same for connections that are being opened.
    pub(super) openings: Arc<Sources>,
    pub(super) handshakes: Arc<Semaphore>,
}

/// Which protocol, by its place in the list; `None` for ordinary HTTP.
type Who = Option<usize>;

/// Serves a connection from its handshake to its end.
pub(super) async fn run(
    shared: Arc<Shared>,
    tcp: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    opening: Opening,
) {
    // Boxed and dropped when done: a connection that idles for days keeps nothing of it.
    let opened = Box::pin(shared.open(tcp, peer, tls, opening)).await;
    let Ok((mut opened, mut who)) = opened else { return shared.metrics.handshakes_failed.inc() };
    loop {
        let Some(no) = who else { return Box::pin(fallback::serve(&shared, opened)).await };
        let protocol = Arc::clone(&shared.protocols[no]);
        let Some(back) = protocol.serve(opened).await else { return };
        let again = Box::pin(shared.claim(back, Some(no), shared.options.handshake_timeout)).await;
        let Ok(again) = again else { return };
        (opened, who) = again;
    }
}

impl Shared {
    /// TLS and as much of the first request as it takes to know whose it is, each in its time.
    async fn open(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        tls: TlsAcceptor,
        opening: Opening,
    ) -> io::Result<(Opened, Who)> {
        tcp.set_nodelay(true)?;
        let time = self.options.handshake_timeout;
        let io = Box::new(timeout(time, tls.accept(tcp)).await??);
        let opened = Opened {
            io,
            first: BytesMut::with_capacity(1024),
            peer,
            shutdown: self.shutdown.clone(),
            metrics: Arc::clone(&self.metrics),
            opening: Some(opening),
        };
        self.claim(opened, None, time).await
    }

    /// Finds who claims a connection; not the one who gave it back.
    async fn claim(
        &self,
        mut opened: Opened,
        not: Who,
        time: Duration,
    ) -> io::Result<(Opened, Who)> {
        let who = timeout(time, self.who(&mut opened.io, &mut opened.first, not)).await??;
        Ok((opened, who))
    }

    async fn who(&self, io: &mut Tls, first: &mut BytesMut, not: Who) -> io::Result<Who> {
        loop {
            let mut is_open = false;
            for (no, protocol) in
                self.protocols.iter().enumerate().filter(|(no, _)| Some(*no) != not)
            {
                match protocol.claims(first) {
                    Some(true) => return Ok(Some(no)),
                    Some(false) => {}
                    None => is_open = true,
                }
            }
            if !is_open || first.len() >= FIRST_BYTES_MAX {
                return Ok(None);
            }
            let is_silent = first.is_empty();
            let read = tokio::select! {
                biased;
                read = io.read_buf(first) => read?,
                // Nobody misses it: the other side said nothing yet.
                () = self.shutdown.begun(), if is_silent => 0,
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
