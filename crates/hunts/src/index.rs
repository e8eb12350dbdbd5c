//! Live hunts in memory, and the has-work bit of each agent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_endpoints::Chunked;
use muster_types::{AgentNo, HuntNo, Timestamp};
use parking_lot::RwLock;

use crate::entry::Entry;

/// Ended hunts kept in memory; beyond, those that ended first go.
const ENDED_MAX: usize = 512;

/// Entries by number. Changed by one writer at a time, read by all.
#[derive(Default)]
pub(crate) struct Index {
    entries: RwLock<Entries>,
    /// One bit an agent: it may have work. Set while `entries` is locked for writing, cleared while it
    /// is locked for reading, so no wave slips in between looking and clearing.
    work: Chunked<AtomicU64>,
}

#[derive(Default)]
struct Entries {
    live: BTreeMap<HuntNo, Arc<Entry>>,
    ended: HashMap<HuntNo, Arc<Entry>>,
}

impl Index {
    pub(crate) fn get(&self, no: HuntNo) -> Option<Arc<Entry>> {
        let entries = self.entries.read();
        entries.live.get(&no).or_else(|| entries.ended.get(&no)).cloned()
    }

    /// Hunts that have not ended, by number.
    pub(crate) fn live(&self) -> Vec<Arc<Entry>> {
        self.entries.read().live.values().cloned().collect()
    }

    /// Ended hunts that are in memory.
    pub(crate) fn ended(&self) -> Vec<Arc<Entry>> {
        self.entries.read().ended.values().cloned().collect()
    }

    /// Takes in new states of hunts; afterwards every agent with work has its bit.
    pub(crate) fn put(&self, changed: Vec<Entry>) {
        let mut entries = self.entries.write();
        for entry in changed {
            let no = entry.def.no;
            let before = entries.live.get(&no).filter(|before| before.def.hands_out());
            if entry.def.hands_out() {
                match before {
                    Some(before) => self.set_work(&(&*entry.recruited - &*before.recruited)),
                    None => self.set_work(&entry.unfinished()),
                }
            }
            if entry.def.state.is_ended() || entry.deleted {
                entries.live.remove(&no);
                entries.ended.insert(no, Arc::new(entry));
            } else {
                entries.ended.remove(&no);
                entries.live.insert(no, Arc::new(entry));
            }
        }
        entries.forget();
    }

    /// Whether the agent may have work: one bit, no lock.
    pub(crate) fn has_work(&self, agent: AgentNo) -> bool {
        let word = self.work.get(agent.0 / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) & bit(agent) != 0)
    }

    /// The hunts whose task this agent has to do; clears its bit when there are none.
    pub(crate) fn work_for(&self, agent: AgentNo) -> Vec<Arc<Entry>> {
        if !self.has_work(agent) {
            return Vec::new();
        }
        let entries = self.entries.read();
        let open = |entry: &&Arc<Entry>| {
            entry.def.hands_out() && entry.is_recruited(agent) && !entry.is_terminal(agent)
        };
        let work: Vec<_> = entries.live.values().filter(open).cloned().collect();
        if work.is_empty()
            && let Some(word) = self.work.get(agent.0 / 64)
        {
            word.fetch_and(!bit(agent), Ordering::AcqRel);
        }
        work
    }

    fn set_work(&self, agents: &roaring::RoaringBitmap) {
        for agent in agents {
            if let Some(word) = self.work.slot(agent / 64) {
                word.fetch_or(bit(AgentNo(agent)), Ordering::AcqRel);
            }
        }
    }
}

impl Entries {
    fn forget(&mut self) {
        if self.ended.len() <= ENDED_MAX {
            return;
        }
        let mut by_end: Vec<_> = self
            .ended
            .values()
            .map(|entry| (entry.def.ended_at.unwrap_or(Timestamp(0)), entry.def.no))
            .collect();
        by_end.sort_unstable();
        for (_, no) in &by_end[..by_end.len() - ENDED_MAX] {
            self.ended.remove(no);
        }
    }
}

fn bit(agent: AgentNo) -> u64 {
    1 << (agent.0 % 64)
}
