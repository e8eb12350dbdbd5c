//! The state of one shard.

use std::collections::{BTreeMap, BTreeSet};

use muster_types::{AgentNo, HuntNo, Shard, TaskId, Timestamp};

use super::agents::Agents;
use super::{ShardProgress, UploadDone};

/// What was met since the state was loaded; for metrics, not part of what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows put into segments.
    pub rows: u64,
    /// Messages that were recognised as repeats, whole or in part.
    pub repeats: u64,
    /// Holes in numbered streams.
    pub gaps: u64,
    /// Messages that could not be read.
    pub poison: u64,
    /// Messages or rows that were refused.
    pub refused: u64,
    /// Scheduled snapshots that were the same as the last.
    pub unchanged: u64,
    /// Tasks that ended.
    pub ended: u64,
}

impl Counters {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            repeats: self.repeats + other.repeats,
            gaps: self.gaps + other.gaps,
            poison: self.poison + other.poison,
            refused: self.refused + other.refused,
            unchanged: self.unchanged + other.unchanged,
            ended: self.ended + other.ended,
        }
    }
}

/// What the fold remembers of one shard.
///
/// Hunt progress is part of the state but has a home of its own in the catalog: the worker loads
/// it with [`ShardState::put_progress`] before the first record of a hunt is folded.
#[derive(Debug)]
pub struct ShardState {
    pub(super) shard: Shard,
    pub(super) agents: Agents,
    pub(super) hunts: BTreeMap<HuntNo, ShardProgress>,
    pub(super) changed_agents: BTreeSet<u32>,
    pub(super) changed_hunts: BTreeSet<HuntNo>,
    pub(super) uploads_done: Vec<UploadDone>,
    /// Counts since loading.
    pub counters: Counters,
}

/// A task that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTaskAt {
    /// Whose.
    pub agent: AgentNo,
    /// Which.
    pub task: TaskId,
    /// When it was last handed over, or first heard of.
    pub since: Timestamp,
}

impl ShardState {
    /// The state before the first record.
    #[must_use]
    pub fn new(shard: Shard) -> Self {
        Self {
            shard,
            agents: Agents::default(),
            hunts: BTreeMap::new(),
            changed_agents: BTreeSet::new(),
            changed_hunts: BTreeSet::new(),
            uploads_done: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Which shard it is.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// How many agents something is known of.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// Whether the progress of the hunt is loaded.
    #[must_use]
    pub fn has_progress(&self, hunt: HuntNo) -> bool {
        self.hunts.contains_key(&hunt)
    }

    /// Sets the stored progress of a hunt; does nothing when it is loaded already.
    pub fn put_progress(&mut self, hunt: HuntNo, progress: ShardProgress) {
        self.hunts.entry(hunt).or_insert(progress);
    }

    /// Progress of a hunt, if it is loaded.
    #[must_use]
    pub fn progress(&self, hunt: HuntNo) -> Option<&ShardProgress> {
        self.hunts.get(&hunt)
    }

    /// Takes the progress of all hunts that changed since the last call.
    pub fn take_changed_progress(&mut self) -> BTreeMap<HuntNo, ShardProgress> {
        std::mem::take(&mut self.changed_hunts)
            .into_iter()
            .filter_map(|hunt| Some((hunt, self.hunts.get(&hunt)?.clone())))
            .collect()
    }

    /// Takes the uploads that became whole since the last call.
    pub fn take_uploads_done(&mut self) -> Vec<UploadDone> {
        std::mem::take(&mut self.uploads_done)
    }

    /// Forgets the progress of hunts for which `keep` says no and nothing is unsaved.
    pub fn forget_progress(&mut self, keep: impl Fn(HuntNo) -> bool) {
        let changed = &self.changed_hunts;
        self.hunts.retain(|hunt, _| changed.contains(hunt) || keep(*hunt));
    }

    /// How many hunts' progress is loaded.
    #[must_use]
    pub fn progress_count(&self) -> usize {
        self.hunts.len()
    }

    /// The attempt of an agent's open task; 1 when none is open.
    #[must_use]
    pub fn attempt(&self, agent: AgentNo, hunt: HuntNo) -> u16 {
        let state = self.agents.find(agent.local());
        let open = state.and_then(|state| state.open.iter().find(|open| open.hunt == hunt));
        open.map_or(1, |open| open.attempt)
    }

    /// All open tasks, in no order.
    pub fn open_tasks(&self) -> impl Iterator<Item = OpenTaskAt> + '_ {
        let shard = self.shard;
        self.agents.at_hand().flat_map(move |(local, state)| {
            state.open.iter().filter_map(move |task| {
                Some(OpenTaskAt {
                    agent: AgentNo::from_parts(shard, local)?,
                    task: TaskId { hunt: task.hunt, attempt: task.attempt },
                    since: task.since,
                })
            })
        })
    }
}
