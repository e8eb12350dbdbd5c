//! What the listener asks of the protocols that share it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::sources::Place;
use super::{Shutdown, Wire};
use crate::Metrics;

/// One of the protocols on a listener. They are asked in order; what none of them claims is ordinary
/// HTTP for the listener's router.
pub trait Protocol: Send + Sync + 'static {
    /// Whether a connection that begins with these bytes is its own; `None` when that cannot be told
    /// yet. Asked again with more bytes, up to [`FIRST_BYTES_MAX`].
    fn claims(&self, first: &[u8]) -> Option<bool>;

    /// Serves a connection until it ends, or gives it back before a request that is not this
    /// protocol's: behind a proxy requests of all kinds come on one connection. The unread request is
    /// [`Opened::first`] then, and the others are asked who claims it.
    ///
    /// After [`Opened::shutdown`] began it finishes what it is in the middle of. Dropped when that
    /// takes too long.
    fn serve(self: Arc<Self>, opened: Opened) -> BoxFuture<'static, Option<Opened>>;

    /// Called every 100 ms between the begin of the shutdown and the end of the last connection, for
    /// protocols that close their own. Connections that were in their handshake appear late.
    fn close(&self) {}
}

/// Bytes within which every protocol must have made up its mind.
pub const FIRST_BYTES_MAX: usize = 8 << 10;

/// A connection after its PROXY header and its TLS handshake, where it has them.
pub struct Opened {
    /// The stream.
    pub io: Wire,
    /// What was read of it already, at least what was needed to claim it.
    pub first: BytesMut,
    /// Who opened it: an agent, or the nearest proxy that says nothing of the connection itself.
    pub peer: SocketAddr,
    /// The listener's end.
    pub shutdown: Shutdown,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Held while the connection has not shown yet that it means well; the listener accepts only so
    /// many of those. Drop it when the first request is in.
    pub opening: Option<Opening>,
}

/// A place among the connections that are being opened.
#[derive(Debug)]
pub struct Opening {
    pub(super) _permit: OwnedSemaphorePermit,
    /// The same among those of its address.
    pub(super) _place: Option<Place>,
}
