//! From an address to an encrypted stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::proxy::ProxyRules;
use super::url::ServerUrl;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name, the network, the proxy.
    #[error("cannot reach {server}")]
    Connect {
        /// Which server.
        server: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The other side is not believed, or speaks no TLS.
    #[error("TLS with {server}")]
    Tls {
        /// Which server.
        server: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer from {server} within {seconds} s")]
    Timeout {
        /// Which server.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The other side speaks, but not as it should.
    #[error("unexpected answer from {server}: {reason}")]
    Answer {
        /// Which server.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// An encrypted stream to a server.
pub type Socket = TlsStream<TcpStream>;

/// A stream, and whom it leads to.
pub struct Connection {
    /// The stream.
    pub socket: Socket,
    /// The server.
    pub server: ServerUrl,
}

impl Connection {
    /// The certificates the server showed, the leaf first.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let (_, session) = self.socket.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
    }
}

/// Opens connections.
#[derive(Clone)]
pub struct Dialer {
    /// Whom to believe.
    pub tls: Arc<ClientConfig>,
    /// Which way to go.
    pub proxy: ProxyRules,
    /// Address to come from, when it matters.
    pub bind: Option<IpAddr>,
    /// For name, TCP, proxy and TLS together.
    pub timeout: Duration,
}

impl Dialer {
    /// Connects and does the TLS handshake.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn connect(&self, server: &ServerUrl) -> Result<Connection, Error> {
        let name = ServerName::try_from(server.host().to_owned());
        let name = name.map_err(|error| Error::Connect {
            server: server.to_string(),
            source: io::Error::other(error),
        })?;
        let seconds = self.timeout.as_secs();
        let all = async {
            let stream = self.tcp(server).await;
            let stream =
                stream.map_err(|source| Error::Connect { server: server.to_string(), source })?;
            let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
            tls.map_err(|source| Error::Tls { server: server.to_string(), source })
        };
        let socket = timeout(self.timeout, all)
            .await
            .map_err(|_| Error::Timeout { server: server.to_string(), seconds })??;
        Ok(Connection { socket, server: server.clone() })
    }

    async fn tcp(&self, server: &ServerUrl) -> io::Result<TcpStream> {
        let proxy = self.proxy.proxy_for(server);
        let next = proxy.map_or(server, |proxy| &proxy.at);
        let mut stream = self.any_of(lookup_host((next.host(), next.port())).await?).await?;
        stream.set_nodelay(true)?;
        if let Some(proxy) = proxy {
            proxy.connect(&mut stream, &server.authority()).await?;
        }
        Ok(stream)
    }

    /// The first address of a name that answers, of both families.
    async fn any_of(&self, addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(bind) = self.bind {
                socket.bind(SocketAddr::new(bind, 0))?;
            }
            // An address that swallows packets must leave time for the next one.
            match timeout(self.timeout / 2, socket.connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}
