//! The link: one WebSocket, held as long as it lasts.

mod hello;
mod session;

pub(crate) use hello::{Greeting, Identity, greet};
pub(crate) use session::{Closed, Session};

use futures_util::{SinkExt, StreamExt};
use muster_codec_native::ServerFrame;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::transport::Socket;

/// The WebSocket to the server.
pub(crate) type Link = WebSocketStream<Socket>;

/// Why a link ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The network or TLS.
    #[error("link broken: {0}")]
    Socket(Box<tungstenite::Error>),
    /// The server's frames.
    #[error("unreadable frame: {0}")]
    Frame(#[from] muster_codec_native::Error),
    /// The server does not follow the conversation.
    #[error("{0}")]
    Protocol(&'static str),
    /// Nothing was heard.
    #[error("nothing heard for {0} s")]
    Silent(u64),
    /// The buffer's disk.
    #[error(transparent)]
    Buffer(#[from] crate::buffer::Error),
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Self {
        Self::Socket(Box::new(error))
    }
}

/// What came out of the socket.
pub(crate) enum Heard {
    /// A frame.
    Frame(ServerFrame),
    /// A ping, or a frame of a type that is new.
    Life,
    /// The end.
    Closed,
}

/// Waits for the next message. Pings are answered on the way.
async fn hear(
    link: &mut (impl StreamExt<Item = Result<Message, tungstenite::Error>> + Unpin),
) -> Result<Heard, Error> {
    match link.next().await {
        None | Some(Ok(Message::Close(_))) => Ok(Heard::Closed),
        Some(Ok(Message::Binary(bytes))) => {
            Ok(ServerFrame::decode(bytes)?.map_or(Heard::Life, Heard::Frame))
        }
        Some(Ok(_)) => Ok(Heard::Life),
        Some(Err(error)) => Err(error.into()),
    }
}

/// Sends a message and flushes it.
async fn say(
    link: &mut (impl SinkExt<Message, Error = tungstenite::Error> + Unpin),
    message: bytes::Bytes,
) -> Result<(), Error> {
    Ok(link.send(Message::Binary(message)).await?)
}
