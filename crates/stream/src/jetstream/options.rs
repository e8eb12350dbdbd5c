//! How a stream on NATS is opened, and why it may not be.

use muster_nats::{ConnectError, Options};
use muster_types::{Pos, Shard};

/// How to open a [`JetStream`](super::JetStream).
#[derive(Clone, Debug)]
pub struct JetStreamOptions {
    /// The servers.
    pub connection: Options,
    /// Begins all subjects and names of streams: letters, digits, `-` and `_`.
    pub prefix: String,
    /// Copies of each stream; needs as many servers.
    pub replicas: usize,
    /// Bytes of records that may be kept, of all instances together.
    pub quota_bytes: u64,
    /// Where streams that are missing begin.
    pub begin: Begin,
}

/// Where streams that are missing begin.
#[derive(Clone, Debug, Default)]
pub enum Begin {
    /// At the start: nothing was ever read from them.
    #[default]
    AtStart,
    /// Above all positions that were used before, after a restore or a move.
    Above {
        /// The highest of them.
        floor: Pos,
        /// Up to where each shard was read.
        shards: Vec<(Shard, Pos)>,
    },
    /// Nowhere: something was read from them, so they ought to be there. With what to do.
    Refused(String),
}

impl Begin {
    /// The first sequence of a new stream; `None` for the usual one.
    pub(super) fn first_sequence(&self) -> Option<u64> {
        match self {
            Self::Above { floor, shards } => {
                let highest = shards.iter().map(|(_, pos)| *pos).chain([*floor]).max();
                highest.map(|pos| super::layout::sequence(pos) + 1)
            }
            _ => None,
        }
    }

    /// Up to where a shard was read before it begins.
    pub(super) fn read_before(&self, shard: Shard) -> Pos {
        match self {
            Self::Above { shards, .. } => {
                let found = shards.iter().find(|(of, _)| *of == shard);
                found.map_or(Pos(0), |(_, pos)| *pos)
            }
            _ => Pos(0),
        }
    }
}

impl JetStreamOptions {
    /// Three copies of everything, named `muster`.
    #[must_use]
    pub fn new(connection: Options, quota_bytes: u64) -> Self {
        Self {
            connection,
            prefix: "muster".to_owned(),
            replicas: 3,
            quota_bytes,
            begin: Begin::AtStart,
        }
    }
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection, and waiting does not mend it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The servers, or the streams that are there, are not fit.
    #[error("{0}")]
    Unfit(String),
}
