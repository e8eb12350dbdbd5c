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
use super::sources::{Place, Sources};
use super::{FIRST_BYTES_MAX, ListenerOptions, Opened, Opening, Protocol, Shutdown, Wire};
use crate::{Metrics, Refusal};

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

/// A connection as it was accepted.
pub(super) struct Accepted {
    pub(super) tcp: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) tls: TlsAcceptor,
    pub(super) opening: Opening,
}

/// Serves a connection from its handshake to its end.
pub(super) async fn run(shared: Arc<Shared>, accepted: Accepted) {
    // Boxed and dropped when done: a connection that idles for days keeps nothing of it.
    let opened = Box::pin(shared.open(accepted)).await;
    let Ok((mut opened, mut who, _place)) = opened else {
        return shared.metrics.handshakes_failed.inc();
    };
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
    /// PROXY header, TLS, and as much of the first request as it takes to know whose it is, each in
    /// its time. With the place of a client whom a balancer named.
    async fn open(&self, accepted: Accepted) -> io::Result<(Opened, Who, Option<Place>)> {
        let Accepted { mut tcp, peer, tls, mut opening } = accepted;
        let (time, front) = (self.options.handshake_timeout, &self.options.front);
        let client = timeout(time, front.client(&mut tcp, peer, &self.metrics)).await??;
        let mut place = None;
        if client != peer {
            (place, opening._place) = self.places(client)?;
        }
        let io = timeout(time, front.secure(tcp, peer, &tls)).await??;
        let opened = Opened {
            io,
            first: BytesMut::with_capacity(1024),
            peer: client,
            shutdown: self.shutdown.clone(),
            metrics: Arc::clone(&self.metrics),
            opening: Some(opening),
        };
        let (opened, who) = self.claim(opened, None, time).await?;
        Ok((opened, who, place))
    }

    /// A place among the connections of an address, and one among those that it is opening; none for
    /// those who carry many.
    pub(super) fn places(&self, client: SocketAddr) -> io::Result<(Option<Place>, Option<Place>)> {
        if self.options.front.exempts(client.ip()) {
            return Ok((None, None));
        }
        // One address that opens and says nothing would keep everybody else from being accepted.
        let (place, opening) = (self.sources.enter(client.ip()), self.openings.enter(client.ip()));
        if place.is_none() || opening.is_none() {
            self.metrics.refused(Refusal::ConnectionsOfSource);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok((place, opening))
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

    async fn who(&self, io: &mut Wire, first: &mut BytesMut, not: Who) -> io::Result<Who> {
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
