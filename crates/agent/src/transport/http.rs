//! The two things said in HTTP: enrolment, and the change to a WebSocket.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use muster_codec_native::{LINK_PATH, MESSAGE_BYTES_MAX};

use super::dial::{Connection, Error, Socket};

/// An answer may not be longer.
const RESPONSE_BYTES_MAX: u64 = 512 << 10;
/// Kept per link: an idle one holds little.
const BUFFER_BYTES: usize = 4 << 10;

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// One POST, after which the connection is closed.
///
/// # Errors
/// [`Error::Connect`] when it breaks, [`Error::Answer`] when the answer is no HTTP.
pub async fn post_json(connection: Connection, path: &str, body: &[u8]) -> Result<Response, Error> {
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    exchange(connection, "POST", path, &fields, body).await
}

/// One GET, after which the connection is closed.
///
/// # Errors
/// As [`post_json`].
pub async fn get(connection: Connection, path: &str) -> Result<Response, Error> {
    exchange(connection, "GET", path, "", &[]).await
}

async fn exchange(
    connection: Connection,
    method: &str,
    path: &str,
    fields: &str,
    body: &[u8],
) -> Result<Response, Error> {
    let Connection { mut socket, server } = connection;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\n{fields}Connection: close\r\n\
         User-Agent: muster-agent/{}\r\n\r\n",
        server.authority(),
        env!("CARGO_PKG_VERSION"),
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    let mut answer = Vec::new();
    let exchange = async {
        socket.write_all(&request).await?;
        socket.flush().await?;
        (&mut socket).take(RESPONSE_BYTES_MAX).read_to_end(&mut answer).await
    };
    match exchange.await {
        // A server may close TCP without closing TLS; the length tells whether all is there.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(Error::Connect { server: server.to_string(), source: error });
        }
        _ => {}
    }
    parse(&answer)
        .ok_or_else(|| Error::Answer { server: server.to_string(), reason: "no HTTP".to_owned() })
}

/// A whole response with a known length, or up to the end of the connection.
fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        lines.clone().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let body = bytes.get(end + 4..)?;
    let body = match header("content-length") {
        Some(length) => body.get(..length.parse().ok()?)?,
        None => body,
    };
    Some(Response { status, body: body.to_vec() })
}

/// Changes a connection to the link's WebSocket.
///
/// # Errors
/// [`Error::Answer`] when the server does not agree.
pub async fn websocket(connection: Connection) -> Result<WebSocketStream<Socket>, Error> {
    let Connection { socket, server } = connection;
    let refused = |reason: String| Error::Answer { server: server.to_string(), reason };
    let url = format!("wss://{}{LINK_PATH}", server.authority());
    let request = url.into_client_request().map_err(|error| refused(error.to_string()))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let upgrade = tokio_tungstenite::client_async_with_config(request, socket, Some(config));
    let (socket, _response) =
        Box::pin(upgrade).await.map_err(|error| refused(error.to_string()))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_and_short_ones_refused() {
        let text = b"HTTP/1.1 403 Forbidden\r\ncontent-Length: 2\r\n\r\n{}rest";
        assert_eq!(parse(text), Some(Response { status: 403, body: b"{}".to_vec() }));
        let open = b"HTTP/1.0 200 OK\r\n\r\nall";
        assert_eq!(parse(open), Some(Response { status: 200, body: b"all".to_vec() }));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), None);
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), None);
    }
}
