//! One agent's link, from the upgraded connection to its end.

mod auth;
mod line;
mod pump;
mod trust;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::NativeState;
use auth::Verdict;
use wire::Wire;

/// Why a link ended; for the log and the counters.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The agent closed it.
    #[error("closed by the agent")]
    Left,
    /// It broke, or the agent does not speak the protocol.
    #[error(transparent)]
    Trouble(#[from] crate::ws::Trouble),
    /// A frame that is no frame.
    #[error("malformed frame")]
    Malformed(#[from] muster_codec_native::Error),
    /// The agent did not prove who it is.
    #[error("not authenticated: {0}")]
    Unauthenticated(&'static str),
    /// It reads too slowly or gives no sign of life.
    #[error("too slow")]
    Slow,
    /// This instance goes away, and others are there.
    #[error("the server goes away, others are there")]
    Elsewhere,
    /// We ended it.
    #[error("{0}")]
    Closed(&'static str),
}

/// Serves an upgraded connection until it ends.
pub(crate) async fn run<Io>(io: Io, peer: SocketAddr, state: &Arc<NativeState>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    state.metrics.of(muster_types::AgentKind::Native).connections.inc();
    let mut wire = Wire::new(io, state.metrics.clone(), state.options.write_timeout);
    // Boxed and dropped when done: what follows lives for days and should be small.
    let verdict = Box::pin(auth::authenticate(&mut wire, peer, state)).await;
    let end = match verdict {
        Ok(Verdict::Welcome(registered, trust)) => {
            let agent = registered.session().agent.no;
            let presence = Present::new(state, agent);
            let end = pump::run(&mut wire, &registered, trust, state).await;
            drop((registered, presence));
            tracing::debug!(%agent, %peer, reason = %end, "link ended");
            end
        }
        Ok(Verdict::Done) => return,
        Err(end) => {
            tracing::info!(%peer, reason = %end, "link refused");
            end
        }
    };
    Box::pin(wire.farewell(&end, state)).await;
}

/// Marks an agent as connected for as long as it lives.
struct Present<'a> {
    state: &'a NativeState,
    agent: muster_types::AgentNo,
}

impl<'a> Present<'a> {
    fn new(state: &'a NativeState, agent: muster_types::AgentNo) -> Self {
        state.presence.connected(agent);
        Self { state, agent }
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.state.presence.disconnected(self.agent);
    }
}
