//! The state as bytes: little endian, with a version, bounded by its input.
//!
//! A base holds every agent of the shard, a delta those that changed; both have the same form.
//! Reading a delta over a base replaces what it holds. A newer version is refused.
//!
//! Version 2 added uploads and the states of sources; where nothing of that is known, version 1 says the same
//! in fewer bytes. Version 3 ends with a checksum: a mark that changed in a store would otherwise be believed, and
//! rows be dropped as repeats. Version 4 says the same in a quarter of the bytes: a task to everybody puts
//! everybody into a delta. A version is written once all instances read it.

mod compact;
mod fixed;
mod read;

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes};
use muster_types::{Format, Shard};

use super::ShardState;
use super::agent::AgentState;
use read::{SHORT, put_number, small, u8};

/// The last without a checksum.
const WITHOUT_SUM: u8 = 2;
/// The last with numbers of fixed width.
const FIXED: u8 = 3;
const SUM_BYTES: usize = 4;

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
    pub const FORMAT: Format = Format { name: "shard-state", oldest: 1, untold: 2, newest: 4 };

    /// Everything, as a new base that readers of this version read.
    #[must_use]
    pub fn encode_base(&self, version: u8) -> Bytes {
        self.encode(&self.agents.locals(), version)
    }

    /// What changed since the last delta was taken, for readers of this version.
    #[must_use]
    pub fn take_delta(&mut self, version: u8) -> Bytes {
        let changed = std::mem::take(&mut self.changed_agents);
        self.agents.pack(&changed);
        self.encode(&changed, version)
    }

    /// Reads a base or a delta over what is there.
    ///
    /// # Errors
    /// When the bytes are no state of this shard in a known version; the state is then of no use.
    pub fn read(&mut self, whole: &[u8]) -> Result<(), StateError> {
        let mut bytes = whole;
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
            bytes = &bytes[..bytes.len() - SUM_BYTES];
        }
        let found = u8(&mut bytes)?;
        if found != self.shard.get() {
            return Err(StateError::Shard { wanted: self.shard, found });
        }
        let mut before: u32 = 0;
        let mut read = BTreeSet::new();
        while bytes.has_remaining() {
            let (local, agent) = if version > FIXED {
                let local = before.checked_add(small(&mut bytes)?);
                let local = local.ok_or(StateError::Malformed("an agent is out of range"))?;
                (local, compact::read(&mut bytes)?)
            } else {
                fixed::read(&mut bytes, version)?
            };
            self.agents.put(local, agent);
            before = local;
            read.insert(local);
        }
        self.agents.pack(&read);
        Ok(())
    }

    fn encode(&self, locals: &BTreeSet<u32>, allowed: u8) -> Bytes {
        let agents = || locals.iter().filter_map(|local| self.agents.get(*local));
        let version = match allowed {
            // Nothing older holds it; [`Self::FORMAT`] says that every program reads this one.
            ..=WITHOUT_SUM if agents().any(|agent| agent.is_of_version_2()) => WITHOUT_SUM,
            ..=WITHOUT_SUM => 1,
            newer => newer.min(Self::FORMAT.newest),
        };
        let mut out = Vec::with_capacity(16 + locals.len() * 64);
        out.put_u8(version);
        out.put_u8(self.shard.get());
        let mut before = 0;
        for local in locals {
            if version > FIXED {
                put_number(&mut out, u64::from(local - before));
                let there = self.agents.write(*local, &mut out);
                debug_assert!(there, "only known agents change");
            } else if let Some(agent) = self.agents.get(*local) {
                fixed::write(*local, &agent, version, &mut out);
            }
            before = *local;
        }
        if version > WITHOUT_SUM {
            let sum = crc32c::crc32c(&out);
            out.put_u32_le(sum);
        }
        out.into()
    }
}

/// Appends what is remembered of an agent, as version 4 has it.
pub(super) fn pack(agent: &AgentState, out: &mut Vec<u8>) {
    compact::write(agent, out);
}

/// What [`pack`] wrote.
pub(super) fn unpack(mut bytes: &[u8]) -> AgentState {
    compact::read(&mut bytes).expect("bytes of our own, which never left the memory")
}
