//! A connection's stream, however it is protected.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection's stream, boxed: it is moved about, and is large.
pub type Wire = Box<Stream>;

/// Encrypted up to here, or up to a balancer of ours.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and it is boxed")]
pub enum Stream {
    /// TLS ends here.
    Tls(TlsStream<TcpStream>),
    /// TLS ended at a balancer.
    Plain(TcpStream),
}

impl Stream {
    /// Whether the client showed a certificate, which the TLS configuration found good. Never where
    /// TLS ends at a balancer: what one says about certificates is not believed.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        match self {
            Self::Tls(tls) => {
                tls.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty())
            }
            Self::Plain(_) => false,
        }
    }

    /// Whether both sides agreed on HTTP/2.
    #[must_use]
    pub fn is_h2(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
        }
    }
}
