//! From this instance to the others: a bounded buffer and a task that empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_nats::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::counters::Counters;
use super::seal::HintKey;
use super::wire::Subjects;
use crate::Topic;

/// Hints on their way out.
const HINTS_MAX: usize = 8192;

/// Their content.
const BYTES_MAX: usize = 32 << 20;

/// The others are told of lost hints at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What goes through the buffer.
enum Item {
    /// Subject and content.
    Hint(String, Bytes),
    /// Answered when all before it has been written to the server.
    Mark(oneshot::Sender<()>),
}

/// The side that publishes.
pub(super) struct Outgoing {
    queue: mpsc::Sender<Item>,
    bytes: Arc<AtomicUsize>,
    subjects: Subjects,
    counters: Arc<Counters>,
}

/// The side that sends.
pub(super) struct Pump {
    queue: mpsc::Receiver<Item>,
    bytes: Arc<AtomicUsize>,
    connection: Connection,
    subjects: Subjects,
    key: HintKey,
    counters: Arc<Counters>,
}

impl Outgoing {
    pub(super) fn new(
        connection: Connection,
        subjects: Subjects,
        key: HintKey,
        counters: Arc<Counters>,
    ) -> (Self, Pump) {
        let (sender, receiver) = mpsc::channel(HINTS_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let pump = Pump {
            queue: receiver,
            bytes: bytes.clone(),
            connection,
            subjects: subjects.clone(),
            key,
            counters: counters.clone(),
        };
        (Self { queue: sender, bytes, subjects, counters }, pump)
    }

    /// Adds a hint, or drops and counts it. Never waits.
    pub(super) fn push(&self, topic: &Topic, content: Bytes) {
        let length = content.len();
        let held = self.bytes.fetch_add(length, Ordering::Relaxed);
        let fits = held + length <= BYTES_MAX;
        if !fits || self.queue.try_send(Item::Hint(self.subjects.of(topic), content)).is_err() {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            Counters::add(&self.counters.dropped);
        }
    }

    /// Waits until all that was added before has been written to the server, or was dropped.
    pub(super) async fn written(&self) {
        let (mark, written) = oneshot::channel();
        if self.queue.send(Item::Mark(mark)).await.is_ok() {
            let _ = written.await;
        }
    }
}

impl Pump {
    /// Sends until the bus is gone.
    pub(super) async fn run(mut self) {
        let mut status = self.connection.status();
        let (mut told, mut tell_at) = (0, Instant::now());
        loop {
            let lost = Counters::get(&self.counters.dropped) != told;
            let connected = self.connection.is_connected();
            tokio::select! {
                biased;
                () = sleep_until(tell_at), if lost && connected => {
                    told = Counters::get(&self.counters.dropped);
                    tell_at = Instant::now() + TELL_EVERY;
                    // Also lost when this fails: then the connection is, and the next round says it.
                    let _ = self.connection.client().publish(self.subjects.gap(), Bytes::new()).await;
                }
                hint = self.queue.recv() => match hint {
                    Some(Item::Hint(subject, content)) => self.send(subject, &content).await,
                    Some(Item::Mark(mark)) => {
                        // Without a connection there is nothing to wait for.
                        if self.connection.is_connected() {
                            let _ = self.connection.client().flush().await;
                        }
                        let _ = mark.send(());
                    }
                    None => return,
                },
                changed = status.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn send(&self, subject: String, content: &Bytes) {
        self.bytes.fetch_sub(content.len(), Ordering::Relaxed);
        // Sealed here, so that no publisher waits for it.
        let sent = self.connection.is_connected() && {
            let sealed = self.key.seal(&subject, content);
            self.connection.client().publish(subject, sealed).await.is_ok()
        };
        Counters::add(if sent { &self.counters.sent } else { &self.counters.dropped });
    }
}
