//! The state as bytes: little endian, with a version, bounded by its input.
//!
//! A base holds every agent of the shard, a delta those that changed; both have the same form.
//! Reading a delta over a base replaces what it holds. A newer version is refused.
//!
//! Version 2 added uploads and the states of sources; where nothing of that is known, version 1 says the same
//! in fewer bytes. Version 3 ends with a checksum: a mark that changed in a store would otherwise be believed, and
//! rows be dropped as repeats. It is written once all instances read it.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use muster_types::{Format, HuntNo, Outcome, Shard, TaskEnd, TaskId, Timestamp};

use super::ShardState;
use super::agent::{
    AgentState, EndedTask, Known, LogMark, MAX_ENDED, MAX_LOGS, MAX_MESSAGES, MAX_PARTS,
    MAX_RANGES, MAX_SOURCES, MAX_STREAMS, MAX_UPLOADS, OpenTask, Part, Ranges, Runs, SourceState,
    StreamMark, Upload,
};

/// The last without a checksum.
const WITHOUT_SUM: u8 = 2;
const SUM_BYTES: usize = 4;
const NO_OUTCOME: u8 = 255;

/// Why bytes are no state of a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by a newer version.
    #[error("shard state format {0} is newer than this version reads")]
    Version(u8),
    /// Of another shard.
    #[error("shard state is of shard {found}, not {wanted}")]
    Shard {
        /// Which was wanted.
        wanted: Shard,
        /// Which it is of.
        found: u8,
    },
    /// The checksum does not fit.
    #[error("shard state is damaged: its checksum does not fit")]
    Damaged,
    /// Cut short or malformed.
    #[error("shard state is malformed: {0}")]
    Malformed(&'static str),
}

impl ShardState {
    /// Its stored form.
    pub const FORMAT: Format = Format { name: "shard-state", oldest: 1, untold: 2, newest: 3 };

    /// Everything, as a new base that readers of this version read.
    #[must_use]
    pub fn encode_base(&self, version: u8) -> Bytes {
        let locals: BTreeSet<u32> = self.agents.keys().copied().collect();
        self.encode(&locals, version)
    }

    /// What changed since the last delta was taken, for readers of this version.
    #[must_use]
    pub fn take_delta(&mut self, version: u8) -> Bytes {
        let changed = std::mem::take(&mut self.changed_agents);
        self.encode(&changed, version)
    }

    /// Reads a base or a delta over what is there.
    ///
    /// # Errors
    /// When the bytes are no state of this shard in a known version; the state is then of no use.
    pub fn read(&mut self, mut bytes: Bytes) -> Result<(), StateError> {
        let whole = bytes.clone();
        let version = u8(&mut bytes)?;
        if !Self::FORMAT.reads(version) {
            return Err(StateError::Version(version));
        }
        if version > WITHOUT_SUM {
            let end = whole.len().checked_sub(SUM_BYTES).filter(|end| *end > 0).ok_or(SHORT)?;
            let mut sum = &whole[end..];
            if crc32c::crc32c(&whole[..end]) != sum.get_u32_le() {
                return Err(StateError::Damaged);
            }
            bytes.truncate(bytes.len() - SUM_BYTES);
        }
        let found = u8(&mut bytes)?;
        if found != self.shard.get() {
            return Err(StateError::Shard { wanted: self.shard, found });
        }
        while bytes.has_remaining() {
            let local = u32(&mut bytes)?;
            let agent = read_agent(&mut bytes, version)?;
            self.agents.insert(local, agent);
        }
        Ok(())
    }

    fn encode(&self, locals: &BTreeSet<u32>, allowed: u8) -> Bytes {
        let agents = || locals.iter().filter_map(|local| self.agents.get(local));
        let version = match allowed {
            // Nothing older holds it; [`Self::FORMAT`] says that every program reads this one.
            ..=WITHOUT_SUM if agents().any(AgentState::is_of_version_2) => WITHOUT_SUM,
            ..=WITHOUT_SUM => 1,
            newer => newer.min(Self::FORMAT.newest),
        };
        let mut out = Vec::with_capacity(16 + locals.len() * 128);
        out.put_u8(version);
        out.put_u8(self.shard.get());
        for local in locals {
            if let Some(agent) = self.agents.get(local) {
                out.put_u32_le(*local);
                write_agent(agent, version, &mut out);
            }
        }
        if version > WITHOUT_SUM {
            let sum = crc32c::crc32c(&out);
            out.put_u32_le(sum);
        }
        out.into()
    }
}

fn write_agent(agent: &AgentState, version: u8, out: &mut Vec<u8>) {
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

fn read_source(bytes: &mut Bytes) -> Result<SourceState, StateError> {
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
            out.put_u64_le(end.elapsed_micros);
            out.put_u32_le(u32::try_from(end.message.len()).expect("messages are clipped"));
            out.put_slice(end.message.as_bytes());
        }
    }
}

fn read_agent(bytes: &mut Bytes, version: u8) -> Result<AgentState, StateError> {
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
    Ok(agent)
}

fn read_part(bytes: &mut Bytes) -> Result<Part, StateError> {
    let (flow, part) = (u64(bytes)?, u64(bytes)?);
    let seen = read_ranges(bytes)?;
    let held = match u8(bytes)? {
        0 => None,
        1 => Some(read_held(bytes)?),
        _ => return Err(StateError::Malformed("unknown flag")),
    };
    Ok(Part { flow, part, seen, held })
}

fn read_ranges(bytes: &mut Bytes) -> Result<Ranges, StateError> {
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

fn read_held(bytes: &mut Bytes) -> Result<(u64, TaskEnd), StateError> {
    let below = u64(bytes)?;
    let task = TaskId { hunt: HuntNo(u64(bytes)?), attempt: u16(bytes)? };
    let outcome = match u8(bytes)? {
        NO_OUTCOME => None,
        code => Some(Outcome::from_code(code).ok_or(StateError::Malformed("unknown outcome"))?),
    };
    let elapsed_micros = u64(bytes)?;
    let length = u32(bytes)? as usize;
    if length > bytes.remaining() {
        return Err(SHORT);
    }
    let message = String::from_utf8(bytes.split_to(length).to_vec())
        .map_err(|_| StateError::Malformed("text is not UTF-8"))?;
    Ok((below, TaskEnd { task, outcome, message, elapsed_micros }))
}

const SHORT: StateError = StateError::Malformed("ends early");

fn count(bytes: &mut Bytes, bound: usize) -> Result<u8, StateError> {
    let count = u8(bytes)?;
    if usize::from(count) > bound {
        return Err(StateError::Malformed("a list is longer than its bound"));
    }
    Ok(count)
}

fn u8(bytes: &mut Bytes) -> Result<u8, StateError> {
    bytes.try_get_u8().map_err(|_| SHORT)
}

fn u16(bytes: &mut Bytes) -> Result<u16, StateError> {
    bytes.try_get_u16_le().map_err(|_| SHORT)
}

fn u32(bytes: &mut Bytes) -> Result<u32, StateError> {
    bytes.try_get_u32_le().map_err(|_| SHORT)
}

fn u64(bytes: &mut Bytes) -> Result<u64, StateError> {
    bytes.try_get_u64_le().map_err(|_| SHORT)
}

fn i64(bytes: &mut Bytes) -> Result<i64, StateError> {
    bytes.try_get_i64_le().map_err(|_| SHORT)
}
