//! What is remembered of one agent. Everything here has a bound; at the bound the oldest goes, of
//! sources and uploads the oldest of those that cost least to forget.

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
/// Scheduled sources per agent of which it is known how their state stands.
pub const MAX_SOURCES: usize = 250;
/// Ended tasks per agent of which more than the outcome is known.
pub const MAX_ENDED: usize = 32;

/// Uploads per agent whose blocks are still told apart: as many as may be open at once.
pub const MAX_UPLOADS: usize = 16;

/// Longest upload in bytes, whatever was said when it began.
pub const MAX_UPLOAD_BYTES: u64 = 8 << 30;

/// State of one agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AgentState {
    pub streams: Vec<StreamMark>,
    pub parts: Vec<Part>,
    pub messages: VecDeque<u64>,
    pub logs: Vec<LogMark>,
    /// How many states of sources were begun so far.
    pub generation: u32,
    pub sources: Vec<SourceState>,
    pub open: Vec<OpenTask>,
    pub ended: VecDeque<EndedTask>,
    pub uploads: Vec<Upload>,
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

/// How the state of a scheduled source stands; the most recently begun stands last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceState {
    pub source: u64,
    /// Under which its rows are stored.
    pub generation: u32,
    pub known: Known,
}

/// What is known of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It came whole.
    Whole { hash: [u64; 2], since: Timestamp },
    /// It comes in parts.
    Parts { run: i64 },
    /// It is followed by its differences.
    Runs(Runs),
}

/// The last run of a differential source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runs {
    pub epoch: u64,
    pub counter: u64,
    /// When the endpoint says it was, in microseconds; 0 when it does not say.
    pub at: i64,
    /// Whether the run that holds everything was seen.
    pub based: bool,
    /// Whether a run is missing.
    pub gap: bool,
}

/// The blocks seen of an upload, also when it is whole; the most recently continued stands last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upload {
    pub no: u64,
    pub count: u32,
    pub seen: Ranges,
    pub bytes: u64,
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

    /// The upload; made when it is new.
    pub fn upload(&mut self, no: u64, count: u32) -> &mut Upload {
        let known = self.uploads.iter().position(|upload| upload.no == no);
        let upload = match known {
            Some(at) => self.uploads.remove(at),
            None => {
                if self.uploads.len() >= MAX_UPLOADS {
                    // Those that are whole first: blocks of an open one would be missed. No more are open
                    // at once, so the one that was not continued for longest was given up.
                    let whole = |known: &Upload| known.seen.complete_below(u64::from(known.count));
                    let place = self.uploads.iter().position(whole).unwrap_or(0);
                    self.uploads.remove(place);
                }
                Upload { no, count, ..Upload::default() }
            }
        };
        self.uploads.push(upload);
        self.uploads.last_mut().expect("one was just pushed")
    }

    /// Whether something is known that version 1 of the stored form has no place for.
    pub fn is_of_version_2(&self) -> bool {
        !self.uploads.is_empty() || self.generation > 0
    }

    /// Lines of scheduled rows are gone, and nobody knows of which source: no followed state is whole any more.
    pub fn lose_runs(&mut self) {
        for state in &mut self.sources {
            if let Known::Runs(runs) = &mut state.known {
                runs.gap = true;
            }
        }
    }

    /// How a source stands.
    pub fn source(&mut self, source: u64) -> Option<&mut SourceState> {
        self.sources.iter_mut().find(|known| known.source == source)
    }

    /// Begins a new state of a source; its generation is greater than that of any before. At the bound a
    /// state goes that came whole: it is stored once more when it comes again. One that is followed by
    /// its differences goes last, because it would not be whole until the next base.
    pub fn begin(&mut self, source: u64, known: Known) -> u32 {
        self.sources.retain(|known| known.source != source);
        self.generation = self.generation.saturating_add(1);
        let generation = self.generation;
        if self.sources.len() >= MAX_SOURCES {
            let whole = |known: &Known| matches!(known, Known::Whole { .. });
            let runs = |known: &Known| matches!(known, Known::Runs(_));
            let mut states = self.sources.iter().map(|state| &state.known);
            let place = states.clone().position(whole);
            if place.is_none() && whole(&known) {
                return generation;
            }
            let place = place.or_else(|| states.position(|known| !runs(known)));
            self.sources.remove(place.unwrap_or(0));
        }
        self.sources.push(SourceState { source, generation, known });
        generation
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_followed_states_go_last() {
        let mut agent = AgentState::default();
        let runs = Runs { epoch: 1, counter: 0, at: 0, based: true, gap: false };
        let whole = Known::Whole { hash: [0; 2], since: Timestamp(0) };
        let count = MAX_SOURCES as u64;
        agent.begin(0, Known::Runs(runs));
        agent.begin(1, Known::Parts { run: 1 });
        for source in 2..count {
            agent.begin(source, whole);
        }
        agent.begin(count, Known::Runs(runs));
        assert!(agent.source(0).is_some() && agent.source(1).is_some());
        assert!(agent.source(2).is_none() && agent.source(3).is_some());
        for source in count + 1..2 * count - 2 {
            agent.begin(source, Known::Runs(runs));
        }
        assert!(agent.source(1).is_some());
        agent.begin(5000, whole);
        assert!(agent.source(5000).is_none(), "nothing that came whole is left to go");
        agent.begin(5001, Known::Runs(runs));
        assert!(agent.source(0).is_some() && agent.source(1).is_none());
        agent.begin(5002, Known::Runs(runs));
        assert!(agent.source(0).is_none());
        assert_eq!(agent.sources.len(), MAX_SOURCES);
    }

    #[test]
    fn at_the_bound_open_uploads_go_last() {
        let mut agent = AgentState::default();
        for no in 0..MAX_UPLOADS as u64 {
            let upload = agent.upload(no, 2);
            upload.seen.insert(0, if no == 3 { 2 } else { 1 }, MAX_RANGES);
        }
        agent.upload(100, 2);
        let known = |agent: &AgentState, no| agent.uploads.iter().any(|upload| upload.no == no);
        assert!(known(&agent, 0) && !known(&agent, 3));
        // The first goes on; the second was not continued for longest.
        agent.upload(0, 2);
        agent.upload(101, 2);
        assert!(known(&agent, 0) && !known(&agent, 1));
    }
}
