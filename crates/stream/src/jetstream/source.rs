//! Reading one stream: an ephemeral consumer that is made again, from where reading stands, whenever
//! something happens to it. Nothing is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use futures_util::StreamExt;
use muster_types::{Pos, Shard};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::layout;
use super::message::{self, Unreadable};
use super::metrics::Metrics;
use super::shared::Shared;
use super::trims;
use crate::{Entry, ReadError};

/// Bytes the servers send ahead.
const AHEAD_BYTES: usize = 2 << 20;

/// Messages the servers send ahead; with those of a request that overlaps, fewer than a subscription
/// holds.
const AHEAD_MESSAGES: usize = 2048;

/// How often an idle server says that it is there; after two that are missing reading begins again.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a consumer outlives its reader.
const INACTIVE: Duration = Duration::from_secs(30);

/// After so long without success the reader is told.
const PATIENCE: Duration = Duration::from_secs(20);

/// What reading gives.
pub(super) type Found = Result<Vec<Entry>, ReadError>;

/// Reads the wanted shards of one stream into a channel.
pub(super) struct Source {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: usize,
    /// Each shard, and up to where it has been read.
    pub(super) shards: Vec<(Shard, Pos)>,
    pub(super) out: mpsc::Sender<Found>,
}

/// Why following a consumer ended.
enum Ended {
    /// Begin again.
    Broken(String),
    /// The reader is to be told, or is gone.
    Final(Option<ReadError>),
}

impl Source {
    /// Reads until the reader is gone.
    pub(super) async fn run(mut self) {
        let mut since: Option<Instant> = None;
        loop {
            let before = self.shards.clone();
            match self.follow().await {
                Ended::Final(error) => {
                    if let Some(error) = error {
                        let _ = self.out.send(Err(error)).await;
                    }
                    return;
                }
                Ended::Broken(why) => {
                    Metrics::add(&self.shared.metrics.reread, 1);
                    if before != self.shards {
                        since = None;
                    }
                    let since = *since.get_or_insert_with(Instant::now);
                    tracing::debug!(stream = self.stream, why, "reading begins again");
                    if since.elapsed() > PATIENCE {
                        let _ = self.out.send(Err(ReadError::Unavailable(why))).await;
                        return;
                    }
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn follow(&mut self) -> Ended {
        if let Err(why) = self.shared.usable() {
            return Ended::Broken(why);
        }
        for (shard, after) in &self.shards {
            match trims::check(&self.shared, *shard, *after).await {
                Ok(()) => {}
                Err(ReadError::Unavailable(why)) => return Ended::Broken(why),
                Err(error) => return Ended::Final(Some(error)),
            }
        }
        match self.consume().await {
            Ok(ended) => ended,
            Err(error) => Ended::Broken(error),
        }
    }

    async fn consume(&mut self) -> Result<Ended, String> {
        let shared = self.shared.clone();
        let name = shared.stream_name(self.stream);
        // The message a position is in is read again, as it may hold more.
        let start = self.shards.iter().map(|(_, after)| layout::sequence(*after)).min();
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: start.unwrap_or(1).max(1),
            },
            ack_policy: AckPolicy::None,
            filter_subjects: self.shards.iter().map(|(shard, _)| shared.subject(*shard)).collect(),
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let created = shared.context.create_consumer_on_stream(config, &name).await;
        let consumer = created.map_err(|error| text(&error))?;
        let messages = consumer
            .stream()
            .max_bytes_per_batch(AHEAD_BYTES)
            .max_messages_per_batch(AHEAD_MESSAGES)
            .heartbeat(HEARTBEAT)
            .expires(Duration::from_secs(30))
            .messages()
            .await;
        let mut messages = messages.map_err(|error| text(&error))?;
        let mut status = shared.connection.status();
        let connects = status.borrow_and_update().connects;
        let mut expected = 1;
        loop {
            let message = tokio::select! {
                biased;
                () = self.out.closed() => return Ok(Ended::Final(None)),
                _ = status.wait_for(|now| now.connects != connects) => {
                    return Err("the connection to NATS was lost".to_owned());
                }
                message = messages.next() => message,
            };
            let message = message.ok_or("the consumer ended")?.map_err(|error| text(&error))?;
            let info = message.info().map_err(|error| text(&error))?;
            // One that is missing was lost on the way here, not trimmed.
            if info.consumer_sequence != expected {
                return Err(format!(
                    "message {expected} was lost, {} came",
                    info.consumer_sequence
                ));
            }
            expected += 1;
            let sequence = info.stream_sequence;
            match self.entries(&message.subject, sequence, message.payload.clone()) {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    let (shard, last) = match entries.last() {
                        Some(last) => (last.record.shard(), last.pos),
                        None => continue,
                    };
                    if self.out.send(Ok(entries)).await.is_err() {
                        return Ok(Ended::Final(None));
                    }
                    if let Some((_, after)) = self.shards.iter_mut().find(|(of, _)| *of == shard) {
                        *after = last;
                    }
                }
                Err(error) => return Ok(Ended::Final(Some(error))),
            }
        }
    }

    /// What is new in a message.
    fn entries(&self, subject: &str, sequence: u64, payload: bytes::Bytes) -> Found {
        let wanted = layout::shard_of(subject)
            .and_then(|shard| self.shards.iter().find(|(of, _)| *of == shard));
        let Some((shard, after)) = wanted else { return Ok(Vec::new()) };
        self.shared.saw(*shard, sequence);
        let records = message::decode(payload).map_err(|error| {
            let stream = self.shared.stream_name(self.stream);
            let why = format!("message {sequence} of {stream} cannot be read: {error}");
            match error {
                Unreadable::Newer(_) => ReadError::Newer(why),
                Unreadable::Damaged(_) => ReadError::Unavailable(why),
            }
        })?;
        let entries = records.into_iter().enumerate();
        let entries =
            entries.map(|(place, record)| Entry { pos: layout::pos(sequence, place), record });
        Ok(entries.filter(|entry| entry.pos > *after).collect())
    }
}
