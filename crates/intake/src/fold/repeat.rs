//! Which part of a message is new.

use muster_types::{Facts, Repeat};
use xxhash_rust::xxh3::Xxh3;

use super::agent::{
    AgentState, LogMark, MAX_LOGS, MAX_MESSAGES, MAX_RANGES, MAX_STREAMS, StreamMark,
};

/// What is to be done with the items of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// All of it was here before.
    Repeat,
    /// All but the first `skip` items are new; `gap` tells of messages before it that never came.
    New { skip: usize, gap: Option<String> },
    /// All but the first `skip` items and the first `rows` rows of the item after them are new.
    Within { skip: usize, rows: usize },
    /// New; ends in it wait until the rows of this part are complete below `below`.
    Held { flow: u64, part: u64, below: u64 },
    /// Only these rows, counted from the message's first, are new.
    Pieces { flow: u64, part: u64, below: u64, pieces: Vec<(u64, u64)> },
    /// New; rows come whole with the end of their task or not at all.
    Whole,
    /// It breaks the rules of its protocol.
    Refused(String),
}

/// Finds out, and remembers the message.
pub(super) fn admit(agent: &mut AgentState, facts: &Facts) -> Admission {
    match &facts.repeat {
        Repeat::Sequence { stream, seq } => sequence(agent, *stream, *seq),
        Repeat::RowRange { flow, part, start, end } => row_range(agent, *flow, *part, *start, *end),
        Repeat::Message(id) => message(agent, id),
        Repeat::Lines { log, lines, groups } => {
            let items = facts.items.len();
            let sum = || groups.iter().map(|count| u64::from(*count)).sum::<u64>();
            if groups.is_empty() && lines.len() == items {
                let skip = self::lines(agent, *log, lines);
                return after(skip, lines.len(), skip, 0);
            }
            if groups.len() != items || sum() != lines.len() as u64 || groups.contains(&0) {
                let message = "the message has another number of lines than of hashes";
                return Admission::Refused(message.into());
            }
            let skip = self::lines(agent, *log, lines);
            let mut left = skip;
            let whole = groups.iter().take_while(|count| {
                let fits = **count as usize <= left;
                left -= if fits { **count as usize } else { 0 };
                fits
            });
            let whole = whole.count();
            after(skip, lines.len(), whole, left)
        }
        Repeat::Idempotent => Admission::Whole,
    }
}

fn sequence(agent: &mut AgentState, stream: u64, seq: u64) -> Admission {
    if seq == 0 {
        return Admission::Refused("batches are numbered from 1, this one has number 0".into());
    }
    let last = match agent.streams.iter().position(|mark| mark.stream == stream) {
        Some(at) if agent.streams[at].seq >= seq => return Admission::Repeat,
        Some(at) => agent.streams.remove(at).seq,
        None => {
            if agent.streams.len() >= MAX_STREAMS {
                agent.streams.remove(0);
            }
            0
        }
    };
    agent.streams.push(StreamMark { stream, seq });
    let gap = (seq > last + 1).then(|| match seq - last - 1 {
        1 => format!("batch {} of stream {stream:016x} never came", last + 1),
        n => format!("{n} batches of stream {stream:016x} never came: {} to {}", last + 1, seq - 1),
    });
    Admission::New { skip: 0, gap }
}

fn row_range(agent: &mut AgentState, flow: u64, part: u64, start: u64, end: u64) -> Admission {
    if start > end {
        return Admission::Refused(format!("row range {start} to {end} runs backwards"));
    }
    let entry = agent.part(flow, part);
    if start == end {
        return Admission::Held { flow, part, below: start };
    }
    let pieces = entry.seen.missing(start, end);
    if pieces.is_empty() {
        return Admission::Repeat;
    }
    if !entry.seen.insert(start, end, MAX_RANGES) {
        return Admission::Refused(format!(
            "rows of one part came in more than {MAX_RANGES} pieces"
        ));
    }
    if pieces == [(start, end)] {
        return Admission::Held { flow, part, below: start };
    }
    let pieces = pieces.into_iter().map(|(a, b)| (a - start, b - start)).collect();
    Admission::Pieces { flow, part, below: start, pieces }
}

fn message(agent: &mut AgentState, id: &[u8; 16]) -> Admission {
    let id = xxhash_rust::xxh3::xxh3_64(id);
    if agent.messages.contains(&id) {
        return Admission::Repeat;
    }
    if agent.messages.len() >= MAX_MESSAGES {
        agent.messages.pop_front();
    }
    agent.messages.push_back(id);
    Admission::New { skip: 0, gap: None }
}

/// What is left of a message of `count` lines when `skip` of them were here before.
fn after(skip: usize, count: usize, items: usize, rows: usize) -> Admission {
    if skip == count && count > 0 {
        return Admission::Repeat;
    }
    match rows {
        0 => Admission::New { skip: items, gap: None },
        rows => Admission::Within { skip: items, rows },
    }
}

/// How many of the lines were here before.
fn lines(agent: &mut AgentState, log: u8, lines: &[u64]) -> usize {
    if lines.is_empty() {
        return 0;
    }
    let known = agent.logs.iter().position(|mark| mark.log == log);
    let skip = known.map(|at| agent.logs[at]).map_or(0, |mark| {
        let count = mark.count as usize;
        let same = lines.get(..count).is_some_and(|first| chain(first) == mark.hash);
        if same { count } else { 0 }
    });
    if skip == lines.len() {
        return skip;
    }
    match known {
        Some(at) => _ = agent.logs.remove(at),
        None if agent.logs.len() >= MAX_LOGS => _ = agent.logs.remove(0),
        None => {}
    }
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    agent.logs.push(LogMark { log, count, hash: chain(lines) });
    skip
}

fn chain(lines: &[u64]) -> u64 {
    let mut hash = Xxh3::new();
    for line in lines {
        hash.update(&line.to_le_bytes());
    }
    hash.digest()
}
