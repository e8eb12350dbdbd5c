//! What is remembered of one agent. Everything here has a bound; at the bound the oldest goes.

use std::collections::VecDeque;

use muster_types::{HuntNo, TaskEnd, Timestamp};

/// Numbered streams per agent. A stream lives as long as the agent's disk buffer.
pub const MAX_STREAMS: usize = 4;
/// Parts of flows per agent whose rows are still told apart.
pub const MAX_PARTS: usize = 128;
/// Separate ranges per part. Fleetspeak has at most 100 messages in flight, so an honest agent makes fewer holes.
pub const MAX_RANGES: usize = 128;
/// Message identifiers per agent. Fleetspeak repeats at most the 100 messages that were not acknowledged.
pub const MAX_MESSAGES: usize = 128;
/// Logs per agent (osquery has two).
pub const MAX_LOGS: usize = 8;
/// Scheduled sources per agent whose last content is known.
pub const MAX_SNAPSHOTS: usize = 128;
/// Ended tasks per agent of which more than the outcome is known.
pub const MAX_ENDED: usize = 32;

/// State of one agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AgentState {
    pub streams: Vec<StreamMark>,
    pub parts: Vec<Part>,
    pub messages: VecDeque<u64>,
    pub logs: Vec<LogMark>,
    pub snapshots: Vec<Snapshot>,
    pub open: Vec<OpenTask>,
    pub ended: VecDeque<EndedTask>,
}

/// The highest number seen of a stream; the most recently used stands last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamMark {
    pub stream: u64,
    pub seq: u64,
}

/// Rows seen of one part of a flow; the most recently used stands last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Part {
    pub flow: u64,
    pub part: u64,
    pub seen: Ranges,
    /// An end that waits until all rows below the number are there.
    pub held: Option<(u64, TaskEnd)>,
}

/// The lines of the last message of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogMark {
    pub log: u8,
    pub count: u32,
    pub hash: u64,
}

/// The last content of a scheduled source; the most recently changed stands last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub source: u64,
    pub hash: u128,
    pub since: Timestamp,
}

/// A task without an end. When its time is up is the hunt's affair, not the fold's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenTask {
    pub hunt: HuntNo,
    pub attempt: u16,
    pub since: Timestamp,
    /// The attempt is over, a new one may come.
    pub lost: bool,
    /// Rows of it could not be read.
    pub unreadable: bool,
    pub rows: u64,
    pub bytes: u64,
}

/// A task with an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedTask {
    pub hunt: HuntNo,
    /// The agent's own answer was taken; what an idempotent message brings again is a repeat.
    pub answered: bool,
    /// It went over a cap: what follows is dropped.
    pub cut: bool,
}

impl AgentState {
    pub fn remember_end(&mut self, task: EndedTask) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(task);
    }

    /// The part, as the last of the list; made when it is new.
    pub fn part(&mut self, flow: u64, part: u64) -> &mut Part {
        let found = self.parts.iter().position(|p| p.flow == flow && p.part == part);
        let entry = match found {
            Some(at) => self.parts.remove(at),
            None => {
                if self.parts.len() >= MAX_PARTS {
                    self.parts.remove(0);
                }
                Part { flow, part, ..Part::default() }
            }
        };
        self.parts.push(entry);
        self.parts.last_mut().expect("one was just pushed")
    }
}

/// Half-open ranges: sorted, apart from each other, none empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(pub Vec<(u64, u64)>);

impl Ranges {
    /// The pieces of `start..end` that are not in the set, rising.
    pub fn missing(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut pieces = Vec::new();
        let mut from = start;
        for &(a, b) in &self.0 {
            if b <= from {
                continue;
            }
            if a >= end {
                break;
            }
            if a > from {
                pieces.push((from, a));
            }
            from = b;
        }
        if from < end {
            pieces.push((from, end));
        }
        pieces
    }

    /// Adds `start..end`; false, and nothing changes, when that would make more than `bound` ranges.
    pub fn insert(&mut self, start: u64, end: u64, bound: usize) -> bool {
        if start >= end {
            return true;
        }
        let first = self.0.partition_point(|&(_, b)| b < start);
        let last = self.0.partition_point(|&(a, _)| a <= end);
        if first == last {
            if self.0.len() >= bound {
                return false;
            }
            self.0.insert(first, (start, end));
            return true;
        }
        let joined = (self.0[first].0.min(start), self.0[last - 1].1.max(end));
        self.0.splice(first..last, [joined]);
        true
    }

    /// Whether everything below `end` is in the set.
    pub fn complete_below(&self, end: u64) -> bool {
        end == 0 || self.0.first().is_some_and(|&(a, b)| a == 0 && b >= end)
    }
}
