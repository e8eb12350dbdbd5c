//! An agent in versions 1 to 3: every number in its full width, every list with its length.

use bytes::{Buf, BufMut};
use muster_types::{HuntNo, Outcome, Spent, TaskEnd, TaskId, Timestamp};

use super::super::agent::{
    AgentState, EndedTask, Known, LogMark, MAX_ENDED, MAX_LOGS, MAX_MESSAGES, MAX_PARTS,
    MAX_RANGES, MAX_SOURCES, MAX_STREAMS, MAX_UPLOADS, OpenTask, Part, Ranges, Runs, SourceState,
    StreamMark, Upload,
};
use super::StateError;
use super::read::{NO_OUTCOME, SHORT, i64, text, u8, u16, u32, u64};

pub(super) fn write(local: u32, agent: &AgentState, version: u8, out: &mut Vec<u8>) {
    out.put_u32_le(local);
    out.put_u8(agent.streams.len() as u8);
    for mark in &agent.streams {
        out.put_u64_le(mark.stream);
        out.put_u64_le(mark.seq);
    }
    out.put_u8(agent.parts.len() as u8);
    for part in &agent.parts {
        write_part(part, out);
    }
    out.put_u8(agent.messages.len() as u8);
    for id in &agent.messages {
        out.put_u64_le(*id);
    }
    out.put_u8(agent.logs.len() as u8);
    for mark in &agent.logs {
        out.put_u8(mark.log);
        out.put_u32_le(mark.count);
        out.put_u64_le(mark.hash);
    }
    // Where version 1 had snapshots.
    out.put_u8(0);
    out.put_u32_le(u32::try_from(agent.open.len()).expect("recruited tasks of one agent"));
    for open in &agent.open {
        out.put_u64_le(open.hunt.0);
        out.put_u16_le(open.attempt);
        out.put_i64_le(open.since.0);
        out.put_u8(u8::from(open.lost) | u8::from(open.unreadable) << 1);
        out.put_u64_le(open.rows);
        out.put_u64_le(open.bytes);
    }
    out.put_u8(agent.ended.len() as u8);
    for ended in &agent.ended {
        out.put_u64_le(ended.hunt.0);
        out.put_u8(u8::from(ended.answered) | u8::from(ended.cut) << 1);
    }
    if version == 1 {
        return;
    }
    out.put_u8(agent.uploads.len() as u8);
    for upload in &agent.uploads {
        out.put_u64_le(upload.no);
        out.put_u32_le(upload.count);
        out.put_u64_le(upload.bytes);
        write_ranges(&upload.seen, out);
    }
    out.put_u32_le(agent.generation);
    out.put_u8(agent.sources.len() as u8);
    for source in &agent.sources {
        write_source(source, out);
    }
}

fn write_source(state: &SourceState, out: &mut Vec<u8>) {
    out.put_u64_le(state.source);
    out.put_u32_le(state.generation);
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
            out.put_u64_le(runs.epoch);
            out.put_u64_le(runs.counter);
            out.put_i64_le(runs.at);
        }
    }
}

fn read_source(bytes: &mut &[u8]) -> Result<SourceState, StateError> {
    let (source, generation, flags) = (u64(bytes)?, u32(bytes)?, u8(bytes)?);
    let known = match flags & 3 {
        0 => {
            let hash = [u64(bytes)?, u64(bytes)?];
            Known::Whole { hash, since: Timestamp(i64(bytes)?) }
        }
        1 => Known::Parts { run: i64(bytes)? },
        2 => Known::Runs(Runs {
            epoch: u64(bytes)?,
            counter: u64(bytes)?,
            at: i64(bytes)?,
            based: flags & 4 != 0,
            gap: flags & 8 != 0,
        }),
        _ => return Err(StateError::Malformed("unknown state of a source")),
    };
    Ok(SourceState { source, generation, known })
}

fn write_ranges(ranges: &Ranges, out: &mut Vec<u8>) {
    out.put_u8(ranges.0.len() as u8);
    for (start, end) in &ranges.0 {
        out.put_u64_le(*start);
        out.put_u64_le(*end);
    }
}

fn write_part(part: &Part, out: &mut Vec<u8>) {
    out.put_u64_le(part.flow);
    out.put_u64_le(part.part);
    write_ranges(&part.seen, out);
    match &part.held {
        None => out.put_u8(0),
        Some((below, end)) => {
            out.put_u8(1);
            out.put_u64_le(*below);
            out.put_u64_le(end.task.hunt.0);
            out.put_u16_le(end.task.attempt);
            out.put_u8(end.outcome.map_or(NO_OUTCOME, |outcome| outcome as u8));
            out.put_u64_le(end.spent.elapsed_micros);
            out.put_u32_le(u32::try_from(end.message.len()).expect("messages are clipped"));
            out.put_slice(end.message.as_bytes());
        }
    }
}

pub(super) fn read(bytes: &mut &[u8], version: u8) -> Result<(u32, AgentState), StateError> {
    let local = u32(bytes)?;
    let mut agent = AgentState::default();
    for _ in 0..count(bytes, MAX_STREAMS)? {
        agent.streams.push(StreamMark { stream: u64(bytes)?, seq: u64(bytes)? });
    }
    for _ in 0..count(bytes, MAX_PARTS)? {
        agent.parts.push(read_part(bytes)?);
    }
    for _ in 0..count(bytes, MAX_MESSAGES)? {
        agent.messages.push_back(u64(bytes)?);
    }
    for _ in 0..count(bytes, MAX_LOGS)? {
        agent.logs.push(LogMark { log: u8(bytes)?, count: u32(bytes)?, hash: u64(bytes)? });
    }
    // What version 1 knew of snapshots has no rows in the present state: the next one counts as changed.
    for _ in 0..u8(bytes)? {
        let (_source, _hash) = (u64(bytes)?, bytes.try_get_u128_le().map_err(|_| SHORT)?);
        let _since = i64(bytes)?;
    }
    for _ in 0..u32(bytes)? {
        let (hunt, attempt) = (HuntNo(u64(bytes)?), u16(bytes)?);
        let (since, flags) = (Timestamp(i64(bytes)?), u8(bytes)?);
        agent.open.push(OpenTask {
            hunt,
            attempt,
            since,
            lost: flags & 1 != 0,
            unreadable: flags & 2 != 0,
            rows: u64(bytes)?,
            bytes: u64(bytes)?,
        });
    }
    for _ in 0..count(bytes, MAX_ENDED)? {
        let (hunt, flags) = (HuntNo(u64(bytes)?), u8(bytes)?);
        agent.ended.push_back(EndedTask { hunt, answered: flags & 1 != 0, cut: flags & 2 != 0 });
    }
    if version >= 2 {
        for _ in 0..count(bytes, MAX_UPLOADS)? {
            let (no, upload_count, byte_count) = (u64(bytes)?, u32(bytes)?, u64(bytes)?);
            let seen = read_ranges(bytes)?;
            agent.uploads.push(Upload { no, count: upload_count, seen, bytes: byte_count });
        }
        agent.generation = u32(bytes)?;
        for _ in 0..count(bytes, MAX_SOURCES)? {
            agent.sources.push(read_source(bytes)?);
        }
    }
    Ok((local, agent))
}

fn read_part(bytes: &mut &[u8]) -> Result<Part, StateError> {
    let (flow, part) = (u64(bytes)?, u64(bytes)?);
    let seen = read_ranges(bytes)?;
    let held = match u8(bytes)? {
        0 => None,
        1 => Some(read_held(bytes)?),
        _ => return Err(StateError::Malformed("unknown flag")),
    };
    Ok(Part { flow, part, seen, held })
}

fn read_ranges(bytes: &mut &[u8]) -> Result<Ranges, StateError> {
    let mut ranges = Ranges::default();
    let mut last = None;
    for _ in 0..count(bytes, MAX_RANGES)? {
        let (start, end) = (u64(bytes)?, u64(bytes)?);
        if start >= end || last.is_some_and(|last| start <= last) {
            return Err(StateError::Malformed("ranges are not in order"));
        }
        last = Some(end);
        ranges.0.push((start, end));
    }
    Ok(ranges)
}

fn read_held(bytes: &mut &[u8]) -> Result<(u64, TaskEnd), StateError> {
    let below = u64(bytes)?;
    let task = TaskId { hunt: HuntNo(u64(bytes)?), attempt: u16(bytes)? };
    let outcome = match u8(bytes)? {
        NO_OUTCOME => None,
        code => Some(Outcome::from_code(code).ok_or(StateError::Malformed("unknown outcome"))?),
    };
    let elapsed_micros = u64(bytes)?;
    let length = u32(bytes)? as usize;
    let message = text(bytes, length)?;
    Ok((below, TaskEnd { task, outcome, message, spent: Spent::micros(elapsed_micros) }))
}

fn count(bytes: &mut &[u8], bound: usize) -> Result<u8, StateError> {
    let count = u8(bytes)?;
    if usize::from(count) > bound {
        return Err(StateError::Malformed("a list is longer than its bound"));
    }
    Ok(count)
}
