//! What the parts of a stream share.

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::{self, Context};
use muster_nats::Connection;
use muster_types::{Record, SHARDS, Shard};
use tokio::sync::{Semaphore, watch};

use super::layout;
use super::metrics::Metrics;
use super::options::{JetStreamOptions, OpenError};
use super::sender::{PUBLISH_WAIT, Queue};
use super::trims::Trims;
use super::usage::Usage;
use crate::AppendError;

/// Bytes of appends that wait for their acknowledgement, in KiB.
pub(super) const QUEUE_KIB: usize = 64 << 10;

/// Room in a message beside records: version, subject, the server's own.
const MESSAGE_OVERHEAD: usize = 1 << 10;

/// A record holds up to 512 KiB, and a message at least one record.
const MESSAGE_BYTES_MIN: usize = 600 << 10;

/// Whether the streams are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not known yet.
    Starting,
    /// They are, and fit.
    Ready,
    /// They are not, for this reason.
    Broken(String),
}

/// One per [`JetStream`](super::JetStream).
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) context: Context,
    pub(super) options: JetStreamOptions,
    pub(super) state: watch::Sender<State>,
    pub(super) queues: Vec<Queue>,
    pub(super) room: std::sync::Arc<Semaphore>,
    pub(super) usage: Usage,
    pub(super) trims: Trims,
    pub(super) metrics: Metrics,
    /// The highest sequence seen of each shard.
    seen: Vec<AtomicU64>,
}

impl Shared {
    pub(super) fn new(
        connection: Connection,
        options: JetStreamOptions,
    ) -> Result<Self, OpenError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if options.prefix.is_empty() || !options.prefix.chars().all(plain) {
            let text = "nats.subject_prefix is made of letters, digits, - and _";
            return Err(OpenError::Unfit(text.to_owned()));
        }
        if !(1..=5).contains(&options.replicas) {
            return Err(OpenError::Unfit("nats.replicas is between 1 and 5".to_owned()));
        }
        let context = jetstream::ContextBuilder::new()
            .timeout(PUBLISH_WAIT)
            .ack_timeout(PUBLISH_WAIT)
            .build(connection.client().clone());
        let shards = usize::from(SHARDS);
        Ok(Self {
            connection,
            context,
            state: watch::Sender::new(State::Starting),
            queues: (0..shards).map(|_| Queue::default()).collect(),
            room: std::sync::Arc::new(Semaphore::new(QUEUE_KIB)),
            usage: Usage::new(options.quota_bytes),
            trims: Trims::default(),
            metrics: Metrics::default(),
            seen: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            options,
        })
    }

    /// Why there is no server now.
    pub(super) fn away(&self) -> Option<String> {
        (!self.connection.is_connected())
            .then(|| format!("no NATS server answers at {}", self.connection.shown()))
    }

    /// Whether appends and reads can be tried.
    pub(super) fn usable(&self) -> Result<(), String> {
        if let Some(away) = self.away() {
            return Err(away);
        }
        match &*self.state.borrow() {
            State::Ready => Ok(()),
            State::Starting => Err("the streams are not looked at yet".to_owned()),
            State::Broken(why) => Err(why.clone()),
        }
    }

    /// The longest message.
    pub(super) fn message_bytes_max(&self) -> usize {
        let server = self.connection.client().max_payload();
        server.clamp(MESSAGE_BYTES_MIN, 1 << 20) - MESSAGE_OVERHEAD
    }

    /// Whether the server takes messages as long as they may be.
    pub(super) fn check_payload(&self) -> Result<(), OpenError> {
        let server = self.connection.client().max_payload();
        if server < MESSAGE_BYTES_MIN {
            return Err(OpenError::Unfit(format!(
                "the NATS servers take messages of {server} bytes at most; set max_payload to 1MB in \
                 their configuration"
            )));
        }
        if server < 1 << 20 {
            tracing::warn!(
                max_payload = server,
                "the NATS servers take messages of less than 1 MiB"
            );
        }
        Ok(())
    }

    pub(super) fn subject(&self, shard: Shard) -> String {
        layout::subject(&self.options.prefix, shard)
    }

    pub(super) fn stream_name(&self, stream: usize) -> String {
        layout::stream_name(&self.options.prefix, stream)
    }

    /// What a message costs on disk beside its payload.
    pub(super) fn message_cost(&self) -> u64 {
        // Header and checksum of the file store, and the subject.
        30 + self.options.prefix.len() as u64 + 5
    }

    pub(super) fn saw(&self, shard: Shard, sequence: u64) {
        self.seen[shard.index()].fetch_max(sequence, Ordering::Relaxed);
    }

    pub(super) fn seen(&self, shard: Shard) -> u64 {
        self.seen[shard.index()].load(Ordering::Relaxed)
    }

    /// A record that no message can hold.
    pub(super) fn too_large(&self, record: &Record, bytes: usize) -> AppendError {
        AppendError::Unavailable(format!(
            "a record of {bytes} bytes of agent {} is over the limit of {}; large payloads are objects \
             of the archive",
            record.agent.0,
            self.message_bytes_max()
        ))
    }
}
