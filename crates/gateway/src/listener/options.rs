//! Bounds and times of a listener.

use std::time::Duration;

use super::Front;

/// Bounds and times; the defaults suit 100,000 agents.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Open connections; above it none is accepted until one ends, as with [`Self::handshakes_max`].
    pub connections_max: usize,
    /// Open connections of one address (of one /64 in IPv6); above it new ones are closed at once.
    /// Loopback and proxies of [`Self::front`] are exempt. `None`: half of `connections_max`.
    pub connections_per_source_max: Option<usize>,
    /// TLS handshakes and first requests at a time; above it no connection is accepted, and the
    /// kernel's backlog and the clients' SYN retries are the queue. One address may have an eighth of
    /// them, and its further connections are closed at once; loopback and proxies of [`Self::front`] are exempt.
    pub handshakes_max: usize,
    /// Time for the TLS handshake, and again for the first bytes.
    pub handshake_timeout: Duration,
    /// Time for one HTTP request with its body; osquery gives up at 16 s itself.
    pub request_timeout: Duration,
    /// A kept-alive HTTP connection without a request for this long, or up to twice as long, is
    /// closed. Longer than proxies keep theirs, so that they close first.
    pub idle_timeout: Duration,
    /// After the listener closes, connections have this long to finish what they are in the middle of.
    pub drain_timeout: Duration,
    /// What stands in front.
    pub front: Front,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            connections_max: 200_000,
            connections_per_source_max: None,
            handshakes_max: 512,
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(16),
            idle_timeout: Duration::from_secs(90),
            drain_timeout: Duration::from_secs(10),
            front: Front::default(),
        }
    }
}

impl ListenerOptions {
    pub(super) fn per_source_max(&self) -> usize {
        self.connections_per_source_max.unwrap_or(self.connections_max / 2).max(1)
    }

    pub(super) fn openings_per_source_max(&self) -> usize {
        (self.handshakes_max / 8).max(1)
    }
}
