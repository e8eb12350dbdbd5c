//! The first bytes of a connection: is it an agent's link, or ordinary HTTP?

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use muster_codec_native::LINK_PATH;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};

const HEAD_BYTES_MAX: usize = 8 << 10;

/// What a connection is for.
pub(crate) enum Opening {
    /// An agent's link; the bytes of the answer to its upgrade request.
    Link(Vec<u8>),
    /// A link that is asked for wrongly; the bytes of the refusal.
    BadLink(&'static [u8]),
    /// Ordinary HTTP; what was read of it.
    Http(Bytes),
}

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Reads as much as it takes to tell, and for a link its whole request.
pub(crate) async fn read_opening<Io: AsyncRead + Unpin>(io: &mut Io) -> io::Result<Opening> {
    let mut head = BytesMut::with_capacity(1024);
    loop {
        match is_link(&head) {
            Some(false) => return Ok(Opening::Http(head.freeze())),
            Some(true) if head.ends_with(b"\r\n\r\n") => return Ok(answer(&head)),
            // A client sends nothing after its upgrade request until it is answered.
            Some(true) if head.windows(4).any(|end| end == b"\r\n\r\n") => {
                return Ok(Opening::BadLink(BAD_REQUEST));
            }
            Some(true) if head.len() >= HEAD_BYTES_MAX => return Ok(Opening::BadLink(TOO_LARGE)),
            _ => {}
        }
        if io.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// `None` while it cannot be told yet.
fn is_link(head: &[u8]) -> Option<bool> {
    let start = ["GET ", LINK_PATH].concat();
    match head.strip_prefix(start.as_bytes()) {
        Some([]) => None,
        Some([next, ..]) => Some(matches!(next, b' ' | b'?')),
        None => (!start.as_bytes().starts_with(head)).then_some(false),
    }
}

fn answer(head: &[u8]) -> Opening {
    let Ok(Some((_, request))) = Request::try_parse(head) else {
        return Opening::BadLink(BAD_REQUEST);
    };
    let mut bytes = Vec::with_capacity(256);
    match create_response(&request).and_then(|answer| write_response(&mut bytes, &answer)) {
        Ok(()) => Opening::Link(bytes),
        Err(_) => Opening::BadLink(BAD_REQUEST),
    }
}

/// A connection whose first bytes were read already and come again.
#[derive(Debug)]
pub(crate) struct Rewound<Io> {
    first: Bytes,
    io: Io,
}

impl<Io> Rewound<Io> {
    pub(crate) fn new(first: Bytes, io: Io) -> Self {
        Self { first, io }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Rewound<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..n]);
        self.first.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Rewound<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opening(bytes: &[u8]) -> io::Result<Opening> {
        let mut bytes = bytes;
        read_opening(&mut bytes).await
    }

    #[tokio::test]
    async fn a_link_is_told_from_the_rest() {
        let link = b"GET /v1/agent/link HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: \
            Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let Ok(Opening::Link(answer)) = opening(link).await else { panic!("a link") };
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");

        let other = b"POST /v1/agent/enrol HTTP/1.1\r\n\r\nbody";
        let Ok(Opening::Http(read)) = opening(other).await else { panic!("http") };
        assert_eq!(&read[..], other);
        assert!(matches!(opening(b"GET /v1/agent/links HTTP/1.1\r\n").await, Ok(Opening::Http(_))));
        let bad = b"GET /v1/agent/link HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(matches!(opening(bad).await, Ok(Opening::BadLink(_))));
        assert!(opening(b"GET /v1/age").await.is_err());
        let mut endless = b"GET /v1/agent/link?".to_vec();
        endless.resize(HEAD_BYTES_MAX + 1, b'x');
        assert!(matches!(opening(&endless).await, Ok(Opening::BadLink(_))));
    }
}
