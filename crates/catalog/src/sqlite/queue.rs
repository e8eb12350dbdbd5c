//! What waits for the writer: one bounded queue per priority.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::SqliteTx;
use crate::{Args, Error, Options, Priority, Statement};

/// After this many grants in a row the lowest waiting priority gets one, so none starves.
const STREAK_MAX: u32 = 32;

pub(super) enum Work {
    /// Someone wants a transaction, perhaps for longer than others may hold the writer.
    Transaction { grant: oneshot::Sender<Result<SqliteTx, Error>>, hold: Option<Duration> },
    /// One statement; atomic by itself.
    One { statement: Statement, args: Args, done: oneshot::Sender<Result<u64, Error>> },
}

impl Work {
    /// Nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Transaction { grant, .. } => grant.is_closed(),
            Self::One { done, .. } => done.is_closed(),
        }
    }

    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Transaction { grant, .. } => drop(grant.send(Err(error))),
            Self::One { done, .. } => drop(done.send(Err(error))),
        }
    }
}

/// The senders' end.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    senders: [mpsc::Sender<Work>; Priority::COUNT],
    closing: Arc<watch::Sender<bool>>,
    timeout: Duration,
}

/// The writer's end.
pub(super) struct Waiting {
    receivers: [mpsc::Receiver<Work>; Priority::COUNT],
    closing: watch::Receiver<bool>,
    streak: u32,
}

pub(super) fn channel(options: &Options) -> (Queue, Waiting) {
    let channels: [_; Priority::COUNT] =
        std::array::from_fn(|_| mpsc::channel(options.queue_length_max));
    let (closing, watching) = watch::channel(false);
    let (senders, receivers) = {
        let [a, b, c, d] = channels;
        ([a.0, b.0, c.0, d.0], [a.1, b.1, c.1, d.1])
    };
    let timeout = options.acquire_timeout;
    let queue = Queue { senders, closing: Arc::new(closing), timeout };
    (queue, Waiting { receivers, closing: watching, streak: 0 })
}

impl Queue {
    /// Waits for a place when the queue is full, but not for ever.
    pub(super) async fn push(&self, priority: Priority, work: Work) -> Result<(), Error> {
        let sender = &self.senders[priority as usize];
        match sender.send_timeout(work, self.timeout).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Error::closed()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(Error::Unavailable("the writer's queue is full".to_owned()))
            }
        }
    }

    /// Turns true when nothing more is taken.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Waiting {
    /// The next piece of work, if one waits.
    pub(super) fn try_next(&mut self) -> Option<Work> {
        self.streak += 1;
        let lowest_first = self.streak > STREAK_MAX;
        if lowest_first {
            self.streak = 0;
        }
        for n in 0..Priority::COUNT {
            let at = if lowest_first { Priority::COUNT - 1 - n } else { n };
            while let Ok(work) = self.receivers[at].try_recv() {
                if !work.is_abandoned() {
                    return Some(work);
                }
            }
        }
        self.streak = 0;
        None
    }

    /// The next piece of work; `None` once closed and empty.
    pub(super) async fn next(&mut self) -> Option<Work> {
        loop {
            if let Some(work) = self.try_next() {
                return Some(work);
            }
            if *self.closing.borrow() {
                self.receivers.iter_mut().for_each(mpsc::Receiver::close);
                return self.try_next();
            }
            let [api, lease, intake, presence] = &mut self.receivers;
            let found = tokio::select! {
                biased;
                found = api.recv() => found,
                found = lease.recv() => found,
                found = intake.recv() => found,
                found = presence.recv() => found,
                changed = self.closing.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return None,
                },
            };
            // A receiver that ended has no senders left, so none of them has.
            let work = found?;
            if !work.is_abandoned() {
                return Some(work);
            }
        }
    }
}
