//! How a stream on NATS is opened, and why it may not be.

use muster_nats::{ConnectError, Options};

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
}

impl JetStreamOptions {
    /// Three copies of everything, named `muster`.
    #[must_use]
    pub fn new(connection: Options, quota_bytes: u64) -> Self {
        Self { connection, prefix: "muster".to_owned(), replicas: 3, quota_bytes }
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
