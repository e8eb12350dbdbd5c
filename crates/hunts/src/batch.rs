//! Changes of hunts, applied to the index at once.

use std::collections::HashMap;
use std::sync::Arc;

use muster_catalog::Error;
use muster_types::{AgentSet, HuntNo, Shard};

use crate::entry::Entry;
use crate::hunts::{HuntEvent, Inner};
use crate::news::{Change, Wave};
use crate::rows::HuntRow;
use crate::{HuntState, ShardProgress};

/// Changes of one look at the feeds, or of one hint.
pub(crate) struct Batch<'a> {
    inner: &'a Inner,
    changed: HashMap<HuntNo, Entry>,
    events: Vec<HuntEvent>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        Self { inner, changed: HashMap::new(), events: Vec::new() }
    }

    /// A change that is next in its feed. False when it cannot be applied by what is known.
    pub(crate) fn change(&mut self, change: Change) -> Result<bool, Error> {
        match change {
            Change::Hunt(row) => self.hunt(*row)?,
            Change::Wave(wave) => return Ok(self.wave(&wave)),
            Change::Progress { shards, .. } => {
                for (hunt, shard, progress) in shards {
                    self.progress(hunt, shard, progress);
                }
            }
        }
        Ok(true)
    }

    pub(crate) fn hunt(&mut self, row: HuntRow) -> Result<(), Error> {
        let (def, deleted) = row.hunt()?;
        let no = def.no;
        let Some(known) = self.known(no) else {
            // An old one that changed is read when somebody asks for it. A live one that is not known
            // is new: nothing came before what this brings.
            if !def.state.is_ended() {
                self.changed.insert(no, Entry::new(def, deleted));
            }
            return Ok(());
        };
        let (before, handed_out) = (known.def.state, known.def.hands_out());
        let mut entry = Entry::clone(&known);
        entry.def = Arc::new(def);
        entry.deleted = deleted;
        let hunt = Arc::clone(&entry.def);
        if hunt.state == HuntState::Stopped && before != HuntState::Stopped {
            self.events.push(HuntEvent::Stopped { hunt });
        } else if hunt.hands_out() && !handed_out {
            let agents = Arc::new(AgentSet(entry.unfinished()));
            self.events.push(HuntEvent::Work { hunt, agents });
        }
        self.changed.insert(no, entry);
        Ok(())
    }

    /// False when the hunt is not in memory.
    pub(crate) fn wave(&mut self, wave: &Wave) -> bool {
        let Some(entry) = self.entry(wave.hunt) else { return false };
        entry.put_wave(wave);
        if entry.def.hands_out() {
            let hunt = Arc::clone(&entry.def);
            let agents = Arc::new(wave.agents.clone());
            self.events.push(HuntEvent::Work { hunt, agents });
        }
        true
    }

    /// Of hunts that are not in memory nothing is kept.
    pub(crate) fn progress(&mut self, hunt: HuntNo, shard: Shard, progress: ShardProgress) {
        if let Some(entry) = self.entry(hunt) {
            entry.put_progress(shard, progress);
        }
    }

    fn known(&self, no: HuntNo) -> Option<Arc<Entry>> {
        let changed = self.changed.get(&no).map(|entry| Arc::new(entry.clone()));
        changed.or_else(|| self.inner.index.get(no))
    }

    /// The entry to change; `None` when the hunt is not in memory.
    fn entry(&mut self, no: HuntNo) -> Option<&mut Entry> {
        if !self.changed.contains_key(&no) {
            let known = self.inner.index.get(no)?;
            self.changed.insert(no, Entry::clone(&known));
        }
        self.changed.get_mut(&no)
    }

    /// Makes the changes seen, and tells who follows.
    pub(crate) fn apply(self) {
        self.inner.index.put(self.changed.into_values().collect());
        for event in self.events {
            // Nobody listening is fine.
            let _ = self.inner.events.send(event);
        }
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
