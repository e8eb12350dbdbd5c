//! A link's upgrade request.

use std::io;

use bytes::BytesMut;
use muster_codec_native::LINK_PATH;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response, write_response};

const HEAD_BYTES_MAX: usize = 8 << 10;

/// The answer to an upgrade request.
pub(crate) enum Opening {
    /// It is a link from here on.
    Link {
        /// The bytes of the answer.
        answer: Vec<u8>,
        /// Whom it was forwarded for: all lines of `X-Forwarded-For` as one.
        forwarded_for: String,
    },
    /// It was asked for wrongly.
    Refused(&'static [u8]),
}

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Reads the whole request, of which this was read already.
pub(crate) async fn read_request<Io: AsyncRead + Unpin>(
    io: &mut Io,
    mut head: BytesMut,
) -> io::Result<Opening> {
    loop {
        if head.ends_with(b"\r\n\r\n") {
            return Ok(answer(&head));
        }
        // A client sends nothing after its upgrade request until it is answered.
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Opening::Refused(BAD_REQUEST));
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Ok(Opening::Refused(TOO_LARGE));
        }
        if io.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Whether a connection that begins so is a link; `None` while it cannot be told yet.
pub(crate) fn is_link(head: &[u8]) -> Option<bool> {
    let start = ["GET ", LINK_PATH].concat();
    match head.strip_prefix(start.as_bytes()) {
        Some([]) => None,
        Some([next, ..]) => Some(matches!(next, b' ' | b'?')),
        None => (!start.as_bytes().starts_with(head)).then_some(false),
    }
}

fn answer(head: &[u8]) -> Opening {
    let Ok(Some((_, request))) = Request::try_parse(head) else {
        return Opening::Refused(BAD_REQUEST);
    };
    let mut bytes = Vec::with_capacity(256);
    match create_response(&request).and_then(|answer| write_response(&mut bytes, &answer)) {
        Ok(()) => {
            let lines = request.headers().get_all("x-forwarded-for").iter();
            // What is no text is no address; what stands before it does not count.
            let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
            let forwarded_for = lines.join(",");
            Opening::Link { answer: bytes, forwarded_for }
        }
        Err(_) => Opening::Refused(BAD_REQUEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opening(bytes: &[u8]) -> io::Result<Opening> {
        let (first, mut rest) = bytes.split_at(bytes.len() / 2);
        read_request(&mut rest, first.into()).await
    }

    #[test]
    fn a_link_is_told_from_the_rest() {
        for begun in [&b""[..], b"G", b"GET /v1/age", b"GET /v1/agent/link"] {
            assert_eq!(is_link(begun), None);
        }
        assert_eq!(is_link(b"GET /v1/agent/link HTTP/1.1\r\n"), Some(true));
        assert_eq!(is_link(b"GET /v1/agent/link?x"), Some(true));
        assert_eq!(is_link(b"GET /v1/agent/links HTTP/1.1\r\n"), Some(false));
        assert_eq!(is_link(b"POST /v1/agent/enrol HTTP/1.1\r\n"), Some(false));
    }

    #[tokio::test]
    async fn a_link_is_answered_and_what_is_none_refused() {
        let link = b"GET /v1/agent/link HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: \
            Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let Ok(Opening::Link { answer, .. }) = opening(link).await else { panic!("a link") };
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");

        let bad = b"GET /v1/agent/link HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(matches!(opening(bad).await, Ok(Opening::Refused(_))));
        let early = [&link[..], b"\x82\x00"].concat();
        assert!(matches!(opening(&early).await, Ok(Opening::Refused(_))));
        assert!(opening(b"GET /v1/agent/link HTTP").await.is_err());
        let mut endless = b"GET /v1/agent/link?".to_vec();
        endless.resize(2 * HEAD_BYTES_MAX, b'x');
        assert!(matches!(opening(&endless).await, Ok(Opening::Refused(_))));
    }
}
