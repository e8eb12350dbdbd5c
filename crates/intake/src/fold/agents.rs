//! The agents of a shard. One with something open, or with changes that were not taken as a delta yet, is at hand;
//! the rest are packed into the bytes they are stored in.
//!
//! Nearly all agents of a large fleet rest at any time. Packed, one takes about a hundred bytes; at hand it is a
//! dozen lists, each an allocation with room to grow.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::agent::AgentState;
use super::codec;

/// See the module. An agent is in one of the two.
#[derive(Debug, Default)]
pub(super) struct Agents {
    at_hand: BTreeMap<u32, AgentState>,
    packed: BTreeMap<u32, Box<[u8]>>,
}

impl Agents {
    pub fn len(&self) -> usize {
        self.at_hand.len() + self.packed.len()
    }

    pub fn locals(&self) -> BTreeSet<u32> {
        self.at_hand.keys().chain(self.packed.keys()).copied().collect()
    }

    /// The agent, brought to hand; made when it is new.
    pub fn take_up(&mut self, local: u32) -> &mut AgentState {
        let packed = &mut self.packed;
        self.at_hand.entry(local).or_insert_with(|| {
            packed.remove(&local).map(|bytes| codec::unpack(&bytes)).unwrap_or_default()
        })
    }

    /// All with something open, and some others.
    pub fn at_hand(&self) -> impl Iterator<Item = (u32, &AgentState)> {
        self.at_hand.iter().map(|(local, agent)| (*local, agent))
    }

    /// The agent, if it is at hand: it is when something is open.
    pub fn find(&self, local: u32) -> Option<&AgentState> {
        self.at_hand.get(&local)
    }

    /// The agent, wherever it is.
    pub fn get(&self, local: u32) -> Option<Cow<'_, AgentState>> {
        if let Some(agent) = self.at_hand.get(&local) {
            return Some(Cow::Borrowed(agent));
        }
        self.packed.get(&local).map(|bytes| Cow::Owned(codec::unpack(bytes)))
    }

    /// Appends the agent's packed bytes; false when there is no such agent.
    pub fn write(&self, local: u32, out: &mut Vec<u8>) -> bool {
        match (self.packed.get(&local), self.at_hand.get(&local)) {
            (Some(bytes), _) => out.extend_from_slice(bytes),
            (None, Some(agent)) => codec::pack(agent, out),
            (None, None) => return false,
        }
        true
    }

    /// What was read of an agent replaces what is there.
    pub fn put(&mut self, local: u32, agent: AgentState) {
        self.packed.remove(&local);
        self.at_hand.insert(local, agent);
    }

    /// Packs those of which nothing is open.
    pub fn pack(&mut self, locals: &BTreeSet<u32>) {
        let mut bytes = Vec::new();
        for local in locals {
            let Some(agent) = self.at_hand.get(local).filter(|agent| agent.open.is_empty()) else {
                continue;
            };
            bytes.clear();
            codec::pack(agent, &mut bytes);
            self.packed.insert(*local, bytes.as_slice().into());
            self.at_hand.remove(local);
        }
    }
}
