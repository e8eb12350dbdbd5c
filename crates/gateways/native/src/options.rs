//! Bounds and times of the native gateway.

use std::time::Duration;

use muster_codec_native::{LinkLimits, MESSAGE_BYTES_MAX};

/// Bounds and times; the defaults suit 100,000 agents.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time for a link's request, and again for the hello.
    pub handshake_timeout: Duration,
    /// About how often a silent agent is pinged.
    pub ping_interval: Duration,
    /// Time for one write to get through; a slower reader is cut off.
    pub write_timeout: Duration,
    /// Time in which the older of two links must answer a ping, or the newer takes its place.
    pub clone_probe: Duration,
    /// Largest frame of an enrolled agent.
    pub frame_bytes_max: usize,
    /// Batches an agent may send ahead of their acknowledgement.
    pub batches_in_flight: usize,
    /// How long batches that cannot be stored now are tried again before the link ends: to come again
    /// costs a handshake, and the instances beside this one most likely see the same. Shorter when half
    /// of the byte budget is used.
    pub append_patience: Duration,
    /// How far the clock of an enrolling machine may be off.
    pub clock_skew_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            write_timeout: Duration::from_secs(20),
            clone_probe: Duration::from_secs(3),
            frame_bytes_max: MESSAGE_BYTES_MAX,
            batches_in_flight: 8,
            append_patience: Duration::from_secs(15),
            clock_skew_max: Duration::from_secs(24 * 3600),
        }
    }
}

impl Options {
    pub(crate) fn link_limits(&self) -> LinkLimits {
        let bound = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        LinkLimits {
            frame_bytes: bound(self.frame_bytes_max),
            batches_in_flight: bound(self.batches_in_flight),
            ping_interval_ms: u32::try_from(self.ping_interval.as_millis()).unwrap_or(u32::MAX),
        }
    }
}
