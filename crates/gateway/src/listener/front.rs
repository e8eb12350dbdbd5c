//! What stands in front of a listener, and what a connection begins with because of it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::wire::{Stream, Wire};
use super::{Proxies, proxy_protocol};
use crate::Metrics;

/// The first byte of every TLS connection: a record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Balancers and proxies in front of a listener. By default there are none.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// Whose `X-Forwarded-For` is believed.
    pub proxies: Proxies,
    /// Who begins every connection with a PROXY header, and must.
    pub proxy_protocol: Proxies,
    /// Where TLS ends.
    pub tls: TlsEnds,
}

/// Where TLS ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsEnds {
    /// Here, for everybody.
    #[default]
    Here,
    /// Here, or at one of the proxies: their connections may be plain, and nobody else's.
    AtProxies,
}

impl Front {
    /// Whether connections from here carry those of many, so that bounds per address are not for them:
    /// those of the machine itself, and of proxies.
    #[must_use]
    pub fn exempts(&self, address: IpAddr) -> bool {
        self.proxies.exempts(address) || self.proxy_protocol.trusts(address)
    }

    /// Who opened this connection: who a balancer says in its PROXY header, else `peer`.
    ///
    /// From a balancer that must send a header nothing else is taken; from anybody else a header is not
    /// looked for, and fails as the TLS it is not. The caller bounds the time.
    ///
    /// # Errors
    /// When the header is missing or bad; counted.
    pub async fn client(
        &self,
        tcp: &mut TcpStream,
        peer: SocketAddr,
        metrics: &Metrics,
    ) -> io::Result<SocketAddr> {
        if !self.proxy_protocol.trusts(peer.ip()) {
            return Ok(peer);
        }
        let mut header = Header { is_good: false, metrics };
        let client = proxy_protocol::read(tcp, peer).await.inspect_err(|error| {
            tracing::debug!(%peer, %error, "connection of a balancer is closed");
        })?;
        header.is_good = true;
        Ok(client)
    }

    /// The TLS handshake with `peer`, who may be a proxy that speaks plainly. The caller bounds the time.
    ///
    /// # Errors
    /// When it fails.
    pub async fn secure(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        tls: &TlsAcceptor,
    ) -> io::Result<Wire> {
        tcp.set_nodelay(true)?;
        let is_ours = || self.proxies.trusts(peer.ip()) || self.proxy_protocol.trusts(peer.ip());
        if self.tls == TlsEnds::AtProxies && is_ours() {
            let mut first = [0];
            if tcp.peek(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if first != [TLS_HANDSHAKE] {
                return Ok(Box::new(Stream::Plain(tcp)));
            }
        }
        Ok(Box::new(Stream::Tls(tls.accept(tcp).await?)))
    }
}

/// Counts what did not become good: also when it took too long, and nobody waits for it any more.
struct Header<'a> {
    is_good: bool,
    metrics: &'a Metrics,
}

impl Drop for Header<'_> {
    fn drop(&mut self) {
        if !self.is_good {
            self.metrics.proxy_headers_bad.inc();
        }
    }
}
