//! The bounded queue between a publisher and one subscriber.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Hint, Topic};

/// Content kept for one subscriber, whatever the number of hints.
const BYTES_MAX: usize = 8 << 20;

/// Hints on their way to one subscriber.
///
/// A subscriber that lags is not waited for: what it has not read is dropped as a whole and it
/// gets one [`Hint::Gap`] instead. Dropping all of it rather than the oldest makes sure that a slow
/// reader sees hints between two gaps, and the gap covers the dropped ones anyway.
#[derive(Debug)]
pub(crate) struct Ring {
    state: Mutex<State>,
    changed: Notify,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    hints: VecDeque<(Topic, Bytes)>,
    bytes: usize,
    gap: bool,
    closed: bool,
}

impl Ring {
    /// A ring for at most `capacity` hints (at least one).
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), capacity: capacity.max(1) }
    }

    /// Adds a hint; never waits.
    pub(crate) fn push(&self, topic: Topic, content: Bytes) {
        {
            let mut state = self.state.lock();
            let full = state.hints.len() >= self.capacity
                || state.bytes.saturating_add(content.len()) > BYTES_MAX;
            if full {
                state.forget();
            }
            state.bytes += content.len();
            state.hints.push_back((topic, content));
        }
        self.changed.notify_one();
    }

    /// Tells the subscriber that hints were lost; what it has not read yet is covered by that.
    pub(crate) fn gap(&self) {
        self.state.lock().forget();
        self.changed.notify_one();
    }

    /// No more hints will come; those that are there are still read.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next hint, for the one subscriber of this ring. A dropped call loses nothing: a hint is
    /// taken only when it is returned.
    pub(crate) async fn next(&self) -> Option<Hint> {
        loop {
            // `notify_one` keeps its permit, so a push between the look and the wait is not missed.
            {
                let mut state = self.state.lock();
                if std::mem::take(&mut state.gap) {
                    return Some(Hint::Gap);
                }
                if let Some((topic, content)) = state.hints.pop_front() {
                    state.bytes -= content.len();
                    return Some(Hint::Message(topic, content));
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

impl State {
    fn forget(&mut self) {
        self.hints.clear();
        self.bytes = 0;
        self.gap = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_is_bounded_by_bytes_too() {
        let ring = Ring::new(1000);
        let large = Bytes::from(vec![0; BYTES_MAX / 2]);
        for _ in 0..2 {
            ring.push(Topic::Hunts, large.clone());
        }
        ring.push(Topic::Access, Bytes::from_static(b"!"));
        assert_eq!(ring.next().await, Some(Hint::Gap));
        assert_eq!(ring.next().await, Some(Hint::Message(Topic::Access, Bytes::from_static(b"!"))));
    }

    #[tokio::test]
    async fn what_was_pushed_before_closing_is_still_read() {
        let ring = Ring::new(2);
        ring.push(Topic::Hunts, Bytes::new());
        ring.close();
        assert_eq!(ring.next().await, Some(Hint::Message(Topic::Hunts, Bytes::new())));
        assert_eq!(ring.next().await, None);
        assert_eq!(ring.next().await, None);
    }
}
