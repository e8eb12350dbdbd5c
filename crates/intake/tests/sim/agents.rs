//! Agents that repeat, reorder and lose acknowledgements as far as their protocols let them.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_types::{
    AgentKind, AgentNo, Delta, Fact, Facts, HuntNo, Outcome, Repeat, RowFormat, Rows, Spent,
    TaskEnd, TaskId,
};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::state::State;

/// The artifact that osquery agents send lines of.
pub const SCHEDULED: &str = "pack.lines";

/// One agent and what it has not been acknowledged for.
pub struct Agent {
    pub no: AgentNo,
    pub kind: AgentKind,
    /// Whole messages, in order.
    queue: VecDeque<Facts>,
    /// osquery: lines in order, with their hash.
    lines: VecDeque<(u64, Fact)>,
    /// osquery: how many lines the last message had that was not acknowledged.
    lines_sent: usize,
    seq: u64,
    pub state: State,
}

/// What was handed to the gateway: acknowledge it with [`Agent::acked`] or not.
pub enum Sent {
    Queue(usize),
    Lines(usize),
}

impl Agent {
    pub fn new(no: AgentNo, kind: AgentKind) -> Self {
        let (queue, lines) = (VecDeque::new(), VecDeque::new());
        Self { no, kind, queue, lines, lines_sent: 0, seq: 0, state: State::default() }
    }

    pub fn is_done(&self) -> bool {
        self.queue.is_empty() && self.lines.is_empty()
    }

    /// Answers a task with these rows.
    pub fn answer(&mut self, task: TaskId, rows: &[u64], failed: bool, rng: &mut ChaCha8Rng) {
        let outcome = failed.then_some(Outcome::Failed);
        let message = if failed { "simulated".to_owned() } else { String::new() };
        let end = Fact::End(TaskEnd { task, outcome, message, spent: Spent::micros(3) });
        match self.kind {
            AgentKind::Native => {
                let mut items = vec![Fact::Started(task)];
                for rows in rows.chunks(2) {
                    items.push(rows_of(Some(task), rows));
                    if rng.random_bool(0.5) {
                        self.batch(std::mem::take(&mut items));
                    }
                }
                items.push(end);
                self.batch(items);
            }
            AgentKind::Osquery => {
                let items = vec![rows_of(Some(task), rows), end];
                self.queue.push_back(Facts { repeat: Repeat::Idempotent, items });
            }
            AgentKind::Velociraptor => {
                let flow = task.hunt.0 << 16 | u64::from(task.attempt);
                let mut start = 0;
                for rows in rows.chunks(2) {
                    let to = start + rows.len() as u64;
                    let repeat = Repeat::RowRange { flow, part: 1, start, end: to };
                    self.queue.push_back(Facts { repeat, items: vec![rows_of(Some(task), rows)] });
                    start = to;
                }
                self.queue.push_back(Facts { repeat: Repeat::Idempotent, items: vec![end] });
            }
            AgentKind::Fleetspeak => {
                let flow = task.hunt.0 << 16 | u64::from(task.attempt);
                let mut at = 0;
                for row in rows {
                    let repeat = Repeat::RowRange { flow, part: 1, start: at, end: at + 1 };
                    let items = vec![rows_of(Some(task), &[*row])];
                    self.queue.push_back(Facts { repeat, items });
                    at += 1;
                }
                let repeat = Repeat::RowRange { flow, part: 1, start: at, end: at + 1 };
                self.queue.push_back(Facts { repeat, items: vec![end] });
            }
        }
    }

    /// Has something to say by itself.
    pub fn scheduled(&mut self, row: u64) {
        match self.kind {
            AgentKind::Native => self.batch(vec![rows_of(None, &[row])]),
            AgentKind::Osquery => {
                self.lines.push_back((row.wrapping_mul(0x9e37_79b9), rows_of(None, &[row])));
            }
            AgentKind::Velociraptor | AgentKind::Fleetspeak => {
                let repeat = Repeat::Message(u128::from(row).to_le_bytes());
                self.queue.push_back(Facts { repeat, items: vec![rows_of(None, &[row])] });
            }
        }
    }

    /// Something changes on the endpoint, and a query that follows it runs. False when it has none.
    pub fn turn(&mut self, rng: &mut ChaCha8Rng) -> bool {
        match self.kind {
            AgentKind::Native => {
                let rows = self.state.snapshot(rng);
                self.batch(vec![rows]);
            }
            AgentKind::Osquery => {
                for line in self.state.run(rng) {
                    self.lines.push_back((rng.random(), line));
                }
            }
            AgentKind::Velociraptor | AgentKind::Fleetspeak => return false,
        }
        true
    }

    /// The next messages on the wire, in the order they leave.
    pub fn send(&mut self, rng: &mut ChaCha8Rng) -> Vec<(Facts, Sent)> {
        if self.kind == AgentKind::Osquery && !self.lines.is_empty() && rng.random_bool(0.5) {
            let least = self.lines_sent.max(1);
            let count = rng.random_range(least..=self.lines.len().max(least)).min(self.lines.len());
            self.lines_sent = count;
            let first = self.lines.iter().take(count);
            let lines = first.clone().map(|(hash, _)| *hash).collect();
            let items = first.map(|(_, line)| line.clone()).collect();
            let repeat = Repeat::Lines { log: 0, lines, groups: Vec::new() };
            return vec![(Facts { repeat, items }, Sent::Lines(count))];
        }
        let window = rng.random_range(1..=6).min(self.queue.len());
        let mut order: Vec<usize> = (0..window).collect();
        if self.kind == AgentKind::Fleetspeak {
            order.shuffle(rng);
        }
        order.into_iter().map(|at| (self.queue[at].clone(), Sent::Queue(at))).collect()
    }

    /// The gateway acknowledged these.
    pub fn acked(&mut self, sent: Vec<Sent>) {
        let mut at: Vec<usize> = Vec::new();
        for sent in sent {
            match sent {
                Sent::Lines(count) => {
                    self.lines.drain(..count);
                    self.lines_sent = 0;
                }
                Sent::Queue(index) => at.push(index),
            }
        }
        at.sort_unstable_by(|a, b| b.cmp(a));
        for index in at {
            self.queue.remove(index);
        }
    }

    fn batch(&mut self, items: Vec<Fact>) {
        self.seq += 1;
        let repeat = Repeat::Sequence { stream: u64::from(self.no.0), seq: self.seq };
        self.queue.push_back(Facts { repeat, items });
    }
}

pub fn rows_of(task: Option<TaskId>, rows: &[u64]) -> Fact {
    let json: String = rows.iter().map(|row| format!("{{\"id\":{row}}}\n")).collect();
    Fact::Rows(Rows {
        task,
        source: if task.is_none() { SCHEDULED.to_owned() } else { String::new() },
        columns: Vec::new(),
        format: RowFormat::Lines,
        json: Bytes::from(json),
        endpoint_time: None,
        delta: Delta::None,
    })
}

/// The first attempt at a hunt.
pub fn task(hunt: u64, attempt: u16) -> TaskId {
    TaskId { hunt: HuntNo(hunt), attempt }
}
