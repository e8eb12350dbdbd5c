//! What an agent has sent and keeps until it is told that it is stored.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::ensure;
use bytes::Bytes;
use muster_types::HuntNo;
use tokio::time::Instant;

use crate::report::Stats;

/// Answers that may wait for their acknowledgement; with more the server has a problem.
const WAITING_MAX: usize = 1024;

/// One batch, with the hunt it answers and its rows.
pub(crate) struct Sent {
    seq: u64,
    frame: Bytes,
    answers: Option<(HuntNo, u64)>,
    at: Instant,
}

impl Sent {
    /// Sent now.
    pub(crate) fn new(seq: u64, frame: Bytes, answers: Option<(HuntNo, u64)>) -> Self {
        Self { seq, frame, answers, at: Instant::now() }
    }
}

/// All of an agent's, in order.
#[derive(Default)]
pub(crate) struct Unacked(VecDeque<Sent>);

impl Unacked {
    /// The lowest number that waits.
    pub(crate) fn first(&self) -> Option<u64> {
        self.0.front().map(|sent| sent.seq)
    }

    /// Whether one more may wait.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(self.0.len() < WAITING_MAX, "{WAITING_MAX} answers are not acknowledged");
        Ok(())
    }

    pub(crate) fn push(&mut self, sent: Sent) {
        self.0.push_back(sent);
    }

    /// Everything, to be sent once more.
    pub(crate) fn again(&mut self) -> Vec<Bytes> {
        let now = Instant::now();
        let again = |sent: &mut Sent| {
            sent.at = now;
            sent.frame.clone()
        };
        self.0.iter_mut().map(again).collect()
    }

    /// The server has stored everything up to `seq`.
    pub(crate) fn acked(&mut self, seq: u64, stats: &Stats) {
        while let Some(sent) = self.0.pop_front_if(|sent| sent.seq <= seq) {
            stats.ack_latency.add(sent.at.elapsed());
            stats.acks.fetch_add(1, Relaxed);
            if let Some((hunt, rows)) = sent.answers {
                stats.acked(hunt, rows);
            }
        }
    }
}
