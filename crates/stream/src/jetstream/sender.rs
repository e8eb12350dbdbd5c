//! From the queue of a shard to the servers: one message at a time, of all that has queued.
//!
//! # What was refused does not come back
//! A message that nobody waits for any more may still lie in a socket, and reach the servers when a cut
//! heals. Its agent has sent the rows again by then, through another instance. So every message names
//! the last one of its shard that its sender knows of, and the servers refuse it when there is a newer
//! one: it is stored right after the one it names, or never. Two instances that write to one shard at
//! the same time meet by this as well: one is refused, is told the newer number, and sends again, with
//! what has queued meanwhile: the more instances meet, the fewer and larger their messages are.

use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use muster_types::{Class, Clock as _, Pos, Shard, SystemClock, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::layout::{self, RECORDS_MAX};
use super::message::{self, Frames};
use super::metrics::Metrics;
use super::shared::Shared;
use crate::{AppendError, quota};

/// How long an append waits in all, in the queue and for the acknowledgement. What has queued behind a
/// message that failed is refused with it.
pub const PUBLISH_WAIT: Duration = Duration::from_secs(3);

/// How long an append waits until the last message that takes it begins: a message has the rest of
/// [`PUBLISH_WAIT`] to be acknowledged, or the oldest append in it would end it for all others.
const BEGIN_WAIT: Duration = Duration::from_secs(2);

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
    /// When its append began to wait.
    pub(super) since: Moment,
    /// An earlier part of the same append and shard was not stored, so this must not be either.
    pub(super) failed: Arc<AtomicBool>,
    pub(super) reply: Reply,
}

impl Chunk {
    /// Whether a message that begins now may take it: somebody still waits for it, as far as this
    /// process can know, and for long enough; and nothing before it is missing.
    fn may_begin(&self) -> bool {
        !self.reply.is_closed()
            && self.since.elapsed() < BEGIN_WAIT
            && !self.failed.load(Ordering::Relaxed)
    }
}

/// A moment by two clocks. The monotonic one stands still while a virtual machine does, and the
/// other may be set back; who waits elsewhere has waited for as long as either says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: Timestamp,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemClock.now() }
    }

    fn elapsed(&self) -> Duration {
        let wall = SystemClock.now().0.saturating_sub(self.wall.0);
        self.monotonic.elapsed().max(Duration::from_micros(u64::try_from(wall).unwrap_or(0)))
    }
}

/// What waits for one shard. Bounded by the room all appends share.
#[derive(Default)]
pub(super) struct Queue {
    chunks: Mutex<VecDeque<Chunk>>,
    /// Set under the lock once nobody takes from it any more.
    is_closed: AtomicBool,
    more: Notify,
}

impl Queue {
    /// Queues them all; when the sender has ended they come back.
    pub(super) fn push(&self, new: Vec<Chunk>) -> Vec<Chunk> {
        let mut chunks = self.chunks.lock();
        if self.is_closed.load(Ordering::Relaxed) {
            return new;
        }
        chunks.extend(new);
        drop(chunks);
        self.more.notify_one();
        Vec::new()
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

    /// What was taken last and not stored, to be taken again.
    fn put_back(&self, taken: Vec<Chunk>) {
        let mut chunks = self.chunks.lock();
        for chunk in taken.into_iter().rev() {
            chunks.push_front(chunk);
        }
    }

    fn take_all(&self) -> Vec<Chunk> {
        self.chunks.lock().drain(..).collect()
    }

    /// The rest; nothing is taken in from now on.
    fn close(&self) -> Vec<Chunk> {
        let mut chunks = self.chunks.lock();
        self.is_closed.store(true, Ordering::Relaxed);
        chunks.drain(..).collect()
    }
}

/// Sends for one shard until `stop`; what is queued then is refused.
pub(super) async fn run(shared: Arc<Shared>, shard: Shard, stop: CancellationToken) {
    let queue = &shared.queues[shard.index()];
    let mut line = Line { shard, subject: shared.subject(shard), last: 0, told: None };
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
            send(&shared, &mut line, chunks).await;
        }
    }
    refuse_closed(&shared, queue.close());
}

/// What the sender of a shard knows.
struct Line {
    shard: Shard,
    subject: String,
    /// The sequence of the shard's last message, as far as is known; 0 is not.
    last: u64,
    /// The same, as the servers said when they refused a message because of it.
    told: Option<u64>,
}

/// Sends one message of these, once. What another instance's message was before goes back to the queue.
async fn send(shared: &Shared, line: &mut Line, taken: Vec<Chunk>) {
    let too_late =
        AppendError::Unavailable("what was before it was not stored, or not in time".to_owned());
    let mut chunks = Vec::with_capacity(taken.len());
    // One after the other: what is refused here takes the rest of its append with it.
    for chunk in taken {
        if chunk.may_begin() {
            chunks.push(chunk);
        } else {
            refuse(shared, chunk, &too_late);
        }
    }
    let Some(oldest) = chunks.iter().map(|chunk| chunk.since.monotonic).min() else { return };
    let queue = &shared.queues[line.shard.index()];
    let payload = message::encode(chunks.iter().map(|chunk| &chunk.frames.bytes[..]));
    let begun = Instant::now();
    let bytes = payload.len() as u64;
    match attempt(shared, line, payload, oldest + PUBLISH_WAIT).await {
        Attempt::Stored(sequence) => {
            let metrics = &shared.metrics;
            Metrics::add(&metrics.messages, 1);
            Metrics::add(&metrics.bytes, bytes);
            let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            Metrics::add(&metrics.message_nanos, nanos);
            line.last = sequence;
            shared.saw(line.shard, sequence);
            let mut place = 0;
            for chunk in chunks {
                shared.usage.stored(chunk.cost);
                let end = place + chunk.frames.records;
                let positions = (place..end).map(|place| layout::pos(sequence, place)).collect();
                place = end;
                let _ = chunk.reply.send(Ok(positions));
            }
        }
        Attempt::Behind(last) => {
            Metrics::add(&shared.metrics.conflicts, 1);
            line.told = last;
            if last.is_none() {
                sleep(ANOTHER_PASSES).await;
            }
            queue.put_back(chunks);
        }
        Attempt::Failed(error) => {
            let queued = match &error {
                AppendError::Full { .. } => Vec::new(),
                // Else the last of them would wait for as many time-outs as there are messages.
                _ => queue.take_all(),
            };
            for chunk in chunks.into_iter().chain(queued) {
                refuse(shared, chunk, &error);
            }
        }
    }
}

/// Refuses what came too late for its sender.
pub(super) fn refuse_closed(shared: &Shared, chunks: Vec<Chunk>) {
    let closed = AppendError::Unavailable("the stream is closed".to_owned());
    chunks.into_iter().for_each(|chunk| refuse(shared, chunk, &closed));
}

fn refuse(shared: &Shared, chunk: Chunk, error: &AppendError) {
    chunk.failed.store(true, Ordering::Relaxed);
    shared.usage.not_stored(chunk.cost);
    if matches!(error, AppendError::Full { .. }) {
        shared.usage.refused(chunk.class);
    }
    let _ = chunk.reply.send(Err(error.clone()));
}

/// The sequence of the shard's last message; there is one from its beginning on.
async fn last(shared: &Shared, line: &Line, deadline: Instant) -> Result<u64, AppendError> {
    let ask = async {
        let stream = shared.stream_name(layout::stream_of(line.shard));
        let stream = shared.context.get_stream_no_info(stream).await.map_err(|e| e.to_string())?;
        let last = stream.get_last_raw_message_by_subject(&line.subject).await;
        last.map(|message| message.sequence).map_err(|error| error.to_string())
    };
    match timeout_at(deadline, ask).await {
        Ok(Ok(sequence)) => Ok(sequence),
        Ok(Err(why)) => Err(AppendError::Unavailable(why)),
        Err(_) => Err(AppendError::Unavailable("NATS does not answer".to_owned())),
    }
}

/// How an attempt to publish ended. Whatever went wrong, the message may have been stored, but where
/// the servers said that it was behind; and as the shard's next message, not later.
enum Attempt {
    Stored(u64),
    /// Another message is the shard's last; its sequence, where the server says it.
    Behind(Option<u64>),
    Failed(AppendError),
}

/// The pause when a server says that another message is on its way to the shard, but not which.
const ANOTHER_PASSES: Duration = Duration::from_millis(1);

async fn attempt(
    shared: &Shared,
    line: &mut Line,
    payload: bytes::Bytes,
    deadline: Instant,
) -> Attempt {
    let unavailable = |why: String| Attempt::Failed(AppendError::Unavailable(why));
    // Readers of this process may have seen more than the last message of this sender. What the servers
    // have just said counts more: the stream may have been made anew, and begin below.
    line.last = match line.told.take() {
        Some(last) => last,
        None => line.last.max(shared.seen(line.shard)),
    };
    if line.last == 0 {
        match last(shared, line, deadline - (PUBLISH_WAIT - BEGIN_WAIT)).await {
            Ok(sequence) => line.last = sequence,
            Err(error) => return Attempt::Failed(error),
        }
    }
    let mut status = shared.connection.status();
    let connects = {
        let now = status.borrow_and_update();
        // It would lie in the client's buffer, and agents hear sooner what they can do about it.
        if !now.connected {
            return unavailable("NATS is away".to_owned());
        }
        now.connects
    };
    let lost = status.wait_for(|now| !now.connected || now.connects != connects);
    let message =
        PublishMessage::build().payload(payload).expected_last_subject_sequence(line.last);
    let acknowledged =
        async { shared.context.send_publish(line.subject.clone(), message).await?.await };
    let answer = tokio::select! {
        answer = timeout_at(deadline, acknowledged) => answer,
        _ = lost => return unavailable("the connection to NATS was lost".to_owned()),
    };
    match answer {
        Ok(Ok(ack)) => Attempt::Stored(ack.sequence),
        Ok(Err(error)) if is_full(&error) => Attempt::Failed(quota::full()),
        Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
            unavailable("NATS has no leader for the stream".to_owned())
        }
        Ok(Err(error)) => behind(&error).unwrap_or_else(|| {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            unavailable(format!("{error}{source}"))
        }),
        Err(_) => unavailable("NATS does not answer".to_owned()),
    }
}

/// When the message was refused because of another: `wrong last sequence: 12`, where the number may be
/// missing.
fn behind(error: &PublishError) -> Option<Attempt> {
    let error = error.source()?.downcast_ref::<jetstream::Error>()?;
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE => {
            let text = error.to_string();
            let digits = text.split("wrong last sequence: ").nth(1)?;
            let digits = digits.split(|c: char| !c.is_ascii_digit()).next()?;
            Some(Attempt::Behind(digits.parse().ok()))
        }
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Some(Attempt::Behind(None)),
        _ => None,
    }
}

/// The servers have no room.
fn is_full(error: &PublishError) -> bool {
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
