//! The link as a protocol of the agents' listener.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use muster_gateway::listener::{Opened, Protocol, Wire};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::head::{Opening, is_link, read_request};
use crate::{NativeState, link};

/// Links, for the listener. Enrolment is ordinary HTTP: [`router`](crate::router).
///
/// When the listener ends, links are closed with a jittered time to return.
#[must_use]
pub fn protocol(state: Arc<NativeState>) -> Arc<dyn Protocol> {
    Arc::new(Links { state })
}

struct Links {
    state: Arc<NativeState>,
}

impl Protocol for Links {
    fn claims(&self, first: &[u8]) -> Option<bool> {
        is_link(first)
    }

    fn serve(self: Arc<Self>, opened: Opened) -> BoxFuture<'static, Option<Opened>> {
        Box::pin(async move {
            let Opened { mut io, first, peer, opening, .. } = opened;
            // Boxed and dropped when done: a link that idles for days keeps nothing of it.
            let upgraded = upgrade(&mut io, first, self.state.options.handshake_timeout);
            let upgraded = Box::pin(upgraded).await;
            drop(opening);
            match upgraded {
                Ok(Some(forwarded_for)) => {
                    let address = self.state.proxies.client(peer.ip(), Some(&*forwarded_for));
                    drop(forwarded_for);
                    link::run(io, SocketAddr::new(address, peer.port()), &self.state).await;
                }
                Ok(None) | Err(_) => self.state.metrics.handshakes_failed.inc(),
            }
            None
        })
    }

    fn close(&self) {
        self.state.sessions.close_due();
    }
}

/// Whom a link was forwarded for.
type Forwarded = String;

/// Reads the whole request and answers it; `Some` when it is a link now.
async fn upgrade(io: &mut Wire, first: BytesMut, time: Duration) -> io::Result<Option<Forwarded>> {
    let opening = timeout(time, read_request(io, first)).await??;
    let (answer, upgraded): (&[u8], _) = match &opening {
        Opening::Link { answer, forwarded_for } => (answer, Some(forwarded_for.clone())),
        Opening::Refused(answer) => (answer, None),
    };
    let write = async {
        io.write_all(answer).await?;
        io.flush().await
    };
    timeout(time, write).await??;
    Ok(upgraded)
}
