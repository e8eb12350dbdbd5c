//! An agent in version 4: numbers in as many bytes as they need, and only the lists that hold something.
//!
//! Hashes, times and identifiers that are random keep their eight bytes. Tasks are told by the difference of
//! their hunts' numbers, which are near each other.

use bytes::BufMut;
use muster_types::{HuntNo, Outcome, Spent, TaskEnd, TaskId, Timestamp};

use super::super::agent::{
    AgentState, EndedTask, Known, LogMark, MAX_ENDED, MAX_LOGS, MAX_MESSAGES, MAX_PARTS,
    MAX_RANGES, MAX_SOURCES, MAX_STREAMS, MAX_UPLOADS, OpenTask, Part, Ranges, Runs, SourceState,
    StreamMark, Upload,
};
use super::StateError;
use super::read::{NO_OUTCOME, i64, number, put_number, small, text, u8, u64};

/// Bits of an agent's first byte: which lists follow.
const STREAMS: u8 = 1;
const PARTS: u8 = 1 << 1;
const MESSAGES: u8 = 1 << 2;
const LOGS: u8 = 1 << 3;
const OPEN: u8 = 1 << 4;
const ENDED: u8 = 1 << 5;
const UPLOADS: u8 = 1 << 6;
const SOURCES: u8 = 1 << 7;

// What is told of ended tasks besides their numbers: a bit for each.
const _: () = assert!(MAX_ENDED <= u32::BITS as usize);

/// Appends an agent.
pub(super) fn write(agent: &AgentState, out: &mut Vec<u8>) {
    let lists = [
        (STREAMS, agent.streams.is_empty()),
        (PARTS, agent.parts.is_empty()),
        (MESSAGES, agent.messages.is_empty()),
        (LOGS, agent.logs.is_empty()),
        (OPEN, agent.open.is_empty()),
        (ENDED, agent.ended.is_empty()),
        (UPLOADS, agent.uploads.is_empty()),
        (SOURCES, agent.generation == 0),
    ];
    let there = lists.into_iter().filter(|(_, empty)| !empty).fold(0, |all, (bit, _)| all | bit);
    out.put_u8(there);
    let list = |out: &mut Vec<u8>, bit, count: usize| {
        if there & bit != 0 {
            put_number(out, count as u64);
        }
    };
    list(out, STREAMS, agent.streams.len());
    for mark in &agent.streams {
        out.put_u64_le(mark.stream);
        put_number(out, mark.seq);
    }
    list(out, PARTS, agent.parts.len());
    for part in &agent.parts {
        write_part(part, out);
    }
    list(out, MESSAGES, agent.messages.len());
    for id in &agent.messages {
        out.put_u64_le(*id);
    }
    list(out, LOGS, agent.logs.len());
    for mark in &agent.logs {
        out.put_u8(mark.log);
        put_number(out, u64::from(mark.count));
        out.put_u64_le(mark.hash);
    }
    list(out, OPEN, agent.open.len());
    write_open(&agent.open, out);
    if there & ENDED != 0 {
        write_ended(agent, out);
    }
    list(out, UPLOADS, agent.uploads.len());
    for upload in &agent.uploads {
        put_number(out, upload.no);
        put_number(out, u64::from(upload.count));
        put_number(out, upload.bytes);
        write_ranges(&upload.seen, out);
    }
    if there & SOURCES != 0 {
        put_number(out, u64::from(agent.generation));
        put_number(out, agent.sources.len() as u64);
        for source in &agent.sources {
            write_source(source, out);
        }
    }
}

/// The next agent.
pub(super) fn read(bytes: &mut &[u8]) -> Result<AgentState, StateError> {
    let there = u8(bytes)?;
    let mut agent = AgentState::default();
    if there & STREAMS != 0 {
        agent.streams = list(bytes, MAX_STREAMS, |bytes| {
            Ok(StreamMark { stream: u64(bytes)?, seq: number(bytes)? })
        })?;
    }
    if there & PARTS != 0 {
        agent.parts = list(bytes, MAX_PARTS, read_part)?;
    }
    if there & MESSAGES != 0 {
        agent.messages = list(bytes, MAX_MESSAGES, u64)?.into();
    }
    if there & LOGS != 0 {
        agent.logs = list(bytes, MAX_LOGS, |bytes| {
            Ok(LogMark { log: u8(bytes)?, count: small(bytes)?, hash: u64(bytes)? })
        })?;
    }
    if there & OPEN != 0 {
        let mut hunt = 0;
        agent.open = list(bytes, usize::MAX, |bytes| read_open(bytes, &mut hunt))?;
    }
    if there & ENDED != 0 {
        agent.ended = read_ended(bytes)?.into();
    }
    if there & UPLOADS != 0 {
        agent.uploads = list(bytes, MAX_UPLOADS, |bytes| {
            let (no, count, byte_count) = (number(bytes)?, small(bytes)?, number(bytes)?);
            Ok(Upload { no, count, bytes: byte_count, seen: read_ranges(bytes)? })
        })?;
    }
    if there & SOURCES != 0 {
        agent.generation = small(bytes)?;
        agent.sources = list(bytes, MAX_SOURCES, read_source)?;
    }
    Ok(agent)
}

/// A list with its length. Nothing is allocated for items that are not there.
fn list<T>(
    bytes: &mut &[u8],
    bound: usize,
    mut item: impl FnMut(&mut &[u8]) -> Result<T, StateError>,
) -> Result<Vec<T>, StateError> {
    let count: usize = small(bytes)?;
    if count > bound {
        return Err(StateError::Malformed("a list is longer than its bound"));
    }
    let mut items = Vec::with_capacity(count.min(bytes.len() / std::mem::size_of::<T>().max(1)));
    for _ in 0..count {
        items.push(item(bytes)?);
    }
    Ok(items)
}

/// A number by its difference to the one before, which may be greater.
fn put_difference(out: &mut Vec<u8>, hunt: HuntNo, before: &mut u64) {
    let difference = hunt.0.wrapping_sub(*before) as i64;
    // Small ones of either sign are small.
    put_number(out, (difference << 1 ^ difference >> 63) as u64);
    *before = hunt.0;
}

fn difference(bytes: &mut &[u8], before: &mut u64) -> Result<HuntNo, StateError> {
    let folded = number(bytes)?;
    *before = before.wrapping_add(folded >> 1 ^ (folded & 1).wrapping_neg());
    Ok(HuntNo(*before))
}

fn write_open(open: &[OpenTask], out: &mut Vec<u8>) {
    let mut before = 0;
    for task in open {
        put_difference(out, task.hunt, &mut before);
        put_number(out, u64::from(task.attempt));
        out.put_i64_le(task.since.0);
        out.put_u8(u8::from(task.lost) | u8::from(task.unreadable) << 1);
        put_number(out, task.rows);
        put_number(out, task.bytes);
    }
}

fn read_open(bytes: &mut &[u8], before: &mut u64) -> Result<OpenTask, StateError> {
    let (hunt, attempt) = (difference(bytes, before)?, small(bytes)?);
    let (since, flags) = (Timestamp(i64(bytes)?), u8(bytes)?);
    Ok(OpenTask {
        hunt,
        attempt,
        since,
        lost: flags & 1 != 0,
        unreadable: flags & 2 != 0,
        rows: number(bytes)?,
        bytes: number(bytes)?,
    })
}

fn write_ended(agent: &AgentState, out: &mut Vec<u8>) {
    put_number(out, agent.ended.len() as u64);
    let (mut before, mut answered, mut cut) = (0, 0_u32, 0_u32);
    for (at, task) in agent.ended.iter().enumerate() {
        put_difference(out, task.hunt, &mut before);
        answered |= u32::from(task.answered) << at;
        cut |= u32::from(task.cut) << at;
    }
    put_number(out, u64::from(answered));
    put_number(out, u64::from(cut));
}

fn read_ended(bytes: &mut &[u8]) -> Result<Vec<EndedTask>, StateError> {
    let mut before = 0;
    let mut ended = list(bytes, MAX_ENDED, |bytes| {
        let hunt = difference(bytes, &mut before)?;
        Ok(EndedTask { hunt, answered: false, cut: false })
    })?;
    let (answered, cut) = (small::<u32>(bytes)?, small::<u32>(bytes)?);
    for (at, task) in ended.iter_mut().enumerate() {
        task.answered = answered >> at & 1 != 0;
        task.cut = cut >> at & 1 != 0;
    }
    Ok(ended)
}

fn write_source(state: &SourceState, out: &mut Vec<u8>) {
    out.put_u64_le(state.source);
    put_number(out, u64::from(state.generation));
    match state.known {
        Known::Whole { hash, since } => {
            out.put_u8(0);
            out.put_u64_le(hash[0]);
            out.put_u64_le(hash[1]);
            out.put_i64_le(since.0);
        }
        Known::Parts { run } => {
            out.put_u8(1);
            out.put_i64_le(run);
        }
        Known::Runs(runs) => {
            out.put_u8(2 | u8::from(runs.based) << 2 | u8::from(runs.gap) << 3);
            put_number(out, runs.epoch);
            put_number(out, runs.counter);
            out.put_i64_le(runs.at);
        }
    }
}

fn read_source(bytes: &mut &[u8]) -> Result<SourceState, StateError> {
    let (source, generation, flags) = (u64(bytes)?, small(bytes)?, u8(bytes)?);
    let known = match flags & 3 {
        0 => {
            let hash = [u64(bytes)?, u64(bytes)?];
            Known::Whole { hash, since: Timestamp(i64(bytes)?) }
        }
        1 => Known::Parts { run: i64(bytes)? },
        2 => Known::Runs(Runs {
            epoch: number(bytes)?,
            counter: number(bytes)?,
            at: i64(bytes)?,
            based: flags & 4 != 0,
            gap: flags & 8 != 0,
        }),
        _ => return Err(StateError::Malformed("unknown state of a source")),
    };
    Ok(SourceState { source, generation, known })
}

fn write_part(part: &Part, out: &mut Vec<u8>) {
    out.put_u64_le(part.flow);
    put_number(out, part.part);
    write_ranges(&part.seen, out);
    let Some((below, end)) = &part.held else {
        out.put_u8(0);
        return;
    };
    out.put_u8(1);
    put_number(out, *below);
    put_number(out, end.task.hunt.0);
    put_number(out, u64::from(end.task.attempt));
    out.put_u8(end.outcome.map_or(NO_OUTCOME, |outcome| outcome as u8));
    put_number(out, end.spent.elapsed_micros);
    put_number(out, end.message.len() as u64);
    out.put_slice(end.message.as_bytes());
}

fn read_part(bytes: &mut &[u8]) -> Result<Part, StateError> {
    let (flow, part) = (u64(bytes)?, number(bytes)?);
    let seen = read_ranges(bytes)?;
    let held = match u8(bytes)? {
        0 => None,
        1 => Some(read_held(bytes)?),
        _ => return Err(StateError::Malformed("unknown flag")),
    };
    Ok(Part { flow, part, seen, held })
}

fn read_held(bytes: &mut &[u8]) -> Result<(u64, TaskEnd), StateError> {
    let below = number(bytes)?;
    let task = TaskId { hunt: HuntNo(number(bytes)?), attempt: small(bytes)? };
    let outcome = match u8(bytes)? {
        NO_OUTCOME => None,
        code => Some(Outcome::from_code(code).ok_or(StateError::Malformed("unknown outcome"))?),
    };
    let elapsed_micros = number(bytes)?;
    let length = small(bytes)?;
    Ok((
        below,
        TaskEnd {
            task,
            outcome,
            message: text(bytes, length)?,
            spent: Spent::micros(elapsed_micros),
        },
    ))
}

/// Each by its distance from the one before, and its length.
fn write_ranges(ranges: &Ranges, out: &mut Vec<u8>) {
    put_number(out, ranges.0.len() as u64);
    let mut before = 0;
    for (start, end) in &ranges.0 {
        put_number(out, start - before);
        put_number(out, end - start);
        before = *end;
    }
}

fn read_ranges(bytes: &mut &[u8]) -> Result<Ranges, StateError> {
    const ORDER: StateError = StateError::Malformed("ranges are not in order");
    let mut before: u64 = 0;
    let mut first = true;
    let ranges = list(bytes, MAX_RANGES, |bytes| {
        let (gap, length) = (number(bytes)?, number(bytes)?);
        if length == 0 || (gap == 0 && !first) {
            return Err(ORDER);
        }
        first = false;
        let start = before.checked_add(gap).ok_or(ORDER)?;
        before = start.checked_add(length).ok_or(ORDER)?;
        Ok((start, before))
    })?;
    Ok(Ranges(ranges))
}
