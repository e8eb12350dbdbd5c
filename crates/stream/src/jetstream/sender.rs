//! From the queue of a shard to the servers: one message at a time, of all that has queued.

use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::PublishErrorKind;
use muster_types::{Class, Pos, Shard};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::layout::{self, RECORDS_MAX};
use super::message::{self, Frames};
use super::metrics::Metrics;
use super::shared::Shared;
use crate::{AppendError, quota};

/// How long a message may take to be acknowledged. What has queued behind it is refused with it, so an
/// append takes no longer either.
pub const PUBLISH_WAIT: Duration = Duration::from_secs(3);

/// Records are packed up to this; a larger one travels alone. A server's cost per message vanishes
/// from 64 KiB on, and a message that has to be sent again should not be much larger.
pub(super) const PACK_BYTES: usize = 256 << 10;

type Reply = oneshot::Sender<Result<Vec<Pos>, AppendError>>;

/// Records of one append and one shard.
pub(super) struct Chunk {
    pub(super) frames: Frames,
    pub(super) class: Class,
    /// Bytes it was admitted with.
    pub(super) cost: u64,
    /// An earlier part of the same append and shard was not stored, so this must not be either.
    pub(super) failed: Arc<AtomicBool>,
    pub(super) reply: Reply,
}

/// What waits for one shard. Bounded by the room all appends share.
#[derive(Default)]
pub(super) struct Queue {
    chunks: Mutex<VecDeque<Chunk>>,
    more: Notify,
}

impl Queue {
    pub(super) fn push(&self, chunks: Vec<Chunk>) {
        self.chunks.lock().extend(chunks);
        self.more.notify_one();
    }

    /// What goes into the next message, in order.
    fn take(&self, shared: &Shared) -> Vec<Chunk> {
        let max = shared.message_bytes_max();
        let (mut taken, mut bytes, mut records) = (Vec::new(), 0, 0);
        let mut chunks = self.chunks.lock();
        while let Some(next) = chunks.front() {
            bytes += next.frames.bytes.len();
            records += next.frames.records;
            let fits = bytes <= PACK_BYTES.min(max) && records <= RECORDS_MAX;
            if !taken.is_empty() && !fits {
                break;
            }
            taken.extend(chunks.pop_front());
        }
        taken
    }

    fn take_all(&self) -> Vec<Chunk> {
        self.chunks.lock().drain(..).collect()
    }
}

/// Sends for one shard until `stop`; what is queued then is refused.
pub(super) async fn run(shared: Arc<Shared>, shard: Shard, stop: CancellationToken) {
    let queue = &shared.queues[shard.index()];
    let subject = shared.subject(shard);
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            () = queue.more.notified() => {}
        }
        loop {
            let chunks = queue.take(&shared);
            if chunks.is_empty() {
                break;
            }
            send(&shared, shard, &subject, chunks).await;
        }
    }
    for chunk in queue.take_all() {
        refuse(&shared, chunk, &AppendError::Unavailable("the stream is closed".to_owned()));
    }
}

async fn send(shared: &Shared, shard: Shard, subject: &str, chunks: Vec<Chunk>) {
    let (chunks, dropped): (Vec<Chunk>, Vec<Chunk>) = chunks.into_iter().partition(|chunk| {
        // Nobody waits for it any more, or what was before it is missing.
        !chunk.reply.is_closed() && !chunk.failed.load(Ordering::Relaxed)
    });
    let before_it = AppendError::Unavailable("what was before it was not stored".to_owned());
    for chunk in dropped {
        refuse(shared, chunk, &before_it);
    }
    if chunks.is_empty() {
        return;
    }
    let payload = message::encode(chunks.iter().map(|chunk| &chunk.frames.bytes[..]));
    let begun = Instant::now();
    let bytes = payload.len() as u64;
    match publish(shared, subject.to_owned(), payload).await {
        Ok(sequence) => {
            let metrics = &shared.metrics;
            Metrics::add(&metrics.messages, 1);
            Metrics::add(&metrics.bytes, bytes);
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            Metrics::add(&metrics.message_nanos, nanos);
            shared.saw(shard, sequence);
            let mut place = 0;
            for chunk in chunks {
                shared.usage.stored(chunk.cost);
                let end = place + chunk.frames.records;
                let positions = (place..end).map(|place| layout::pos(sequence, place)).collect();
                place = end;
                let _ = chunk.reply.send(Ok(positions));
            }
        }
        Err(error) => {
            let queued = match &error {
                AppendError::Full { .. } => Vec::new(),
                // Else the last of them would wait for as many time-outs as there are messages.
                _ => shared.queues[shard.index()].take_all(),
            };
            for chunk in chunks.into_iter().chain(queued) {
                refuse(shared, chunk, &error);
            }
        }
    }
}

fn refuse(shared: &Shared, chunk: Chunk, error: &AppendError) {
    chunk.failed.store(true, Ordering::Relaxed);
    shared.usage.not_stored(chunk.cost);
    if matches!(error, AppendError::Full { .. }) {
        shared.usage.refused(chunk.class);
    }
    let _ = chunk.reply.send(Err(error.clone()));
}

/// Publishes and waits for the acknowledgement. Whatever goes wrong, it may have been stored.
async fn publish(
    shared: &Shared,
    subject: String,
    payload: bytes::Bytes,
) -> Result<u64, AppendError> {
    let unavailable = |why: String| AppendError::Unavailable(why);
    let mut status = shared.connection.status();
    let connects = {
        let now = status.borrow_and_update();
        // Else it would lie in the client's buffer and be stored long after it was refused.
        if !now.connected {
            return Err(unavailable("NATS is away".to_owned()));
        }
        now.connects
    };
    let lost = status.wait_for(|now| !now.connected || now.connects != connects);
    let acknowledged = async { shared.context.publish(subject, payload).await?.await };
    let answer = tokio::select! {
        answer = tokio::time::timeout(PUBLISH_WAIT, acknowledged) => answer,
        _ = lost => return Err(unavailable("the connection to NATS was lost".to_owned())),
    };
    match answer {
        Ok(Ok(ack)) => Ok(ack.sequence),
        Ok(Err(error)) if is_full(&error) => Err(quota::full()),
        Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
            Err(unavailable("NATS has no leader for the stream".to_owned()))
        }
        Ok(Err(error)) => {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            Err(unavailable(format!("{error}{source}")))
        }
        Err(_) => Err(unavailable("NATS does not answer".to_owned())),
    }
}

/// The servers have no room.
fn is_full(error: &jetstream::context::PublishError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    source.is_some_and(|error| {
        matches!(
            error.error_code(),
            ErrorCode::STREAM_STORE_FAILED
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                | ErrorCode::INSUFFICIENT_RESOURCES
        )
    })
}
