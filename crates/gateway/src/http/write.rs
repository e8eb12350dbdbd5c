//! Writing an answer.

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{After, Answer};

/// Larger bodies are written from where they are; smaller ones are copied behind their head, and go
/// out in one piece.
const COPIED_BYTES_MAX: usize = 8 << 10;
/// How long, and how much, is read and forgotten after the last answer: enough for the rest of what an
/// agent sends at once, so that it sees the answer and not a broken connection, on which it would send
/// everything again.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: u64 = 16 << 20;

/// An answer that is not written yet, or not all of it.
pub(super) struct Outgoing {
    /// The head, and a small body.
    pub(super) bytes: Vec<u8>,
    /// A large body.
    pub(super) body: Bytes,
    pub(super) told: Told,
    pub(super) close: bool,
}

/// Tells the service once what became of an answer, whatever happens to the connection.
pub(super) struct Told(Option<After>);

impl Told {
    pub(super) fn new(after: Option<After>) -> Self {
        Self(after)
    }

    pub(super) fn written(mut self) {
        if let Some(after) = self.0.take() {
            after(true);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(after) = self.0.take() {
            after(false);
        }
    }
}

/// Puts an answer behind `out`; what is returned is written after it.
pub(super) fn encode(out: &mut Vec<u8>, answer: Answer, close: bool) -> (Bytes, Told) {
    let Answer { status, body, content_type, is_gzip, retry_after, after, .. } = answer;
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        put(out, format_args!("HTTP/1.1 {status} {}\r\n", reason(status)));
    }
    if content_type == "application/json" {
        out.extend_from_slice(b"content-type: application/json\r\n");
    } else {
        put(out, format_args!("content-type: {content_type}\r\n"));
    }
    if is_gzip {
        out.extend_from_slice(b"content-encoding: gzip\r\n");
    }
    if let Some(after) = retry_after {
        put(out, format_args!("retry-after: {}\r\n", after.as_secs().max(1)));
    }
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    put(out, format_args!("content-length: {}\r\n\r\n", body.len()));
    let told = Told::new(after);
    if body.len() > COPIED_BYTES_MAX {
        return (body, told);
    }
    out.extend_from_slice(&body);
    (Bytes::new(), told)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}

/// Writes all of it.
pub(super) async fn write(io: &mut (impl AsyncWrite + Unpin), out: Outgoing) -> io::Result<()> {
    io.write_all(&out.bytes).await?;
    io.write_all(&out.body).await?;
    io.flush().await?;
    out.told.written();
    Ok(())
}

fn reason(status: u16) -> &'static str {
    let status = ::http::StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Other")
}

/// Ends a connection. After an answer that may have come before the request was read, what the other
/// side still sends is read for a moment: closing on it would destroy the answer on its way.
pub(super) async fn farewell(io: &mut (impl AsyncRead + AsyncWrite + Unpin), lingers: bool) {
    let ended = async {
        io.shutdown().await?;
        if lingers {
            tokio::io::copy(&mut io.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
        }
        io::Result::Ok(())
    };
    // Whatever becomes of it, the connection is over.
    let _ = timeout(LINGER, ended).await;
}
