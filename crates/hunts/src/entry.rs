//! One hunt in memory: its definition, who is recruited and what became of them.

use std::sync::Arc;

use muster_types::{AgentNo, Outcome, SHARDS, Shard, Timestamp};
use roaring::RoaringBitmap;

use crate::news::Wave;
use crate::pause::Tally;
use crate::{HuntDef, ShardProgress};

/// Immutable; a change makes a new one that shares what stayed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) def: Arc<HuntDef>,
    pub(crate) deleted: bool,
    /// The last wave that is in `recruited`.
    pub(crate) wave: u64,
    pub(crate) waved_at: Timestamp,
    /// Agent numbers.
    pub(crate) recruited: Arc<RoaringBitmap>,
    shards: Arc<[Option<Arc<ShardProgress>>; SHARDS as usize]>,
}

impl Entry {
    pub(crate) fn new(def: HuntDef, deleted: bool) -> Self {
        Self {
            def: Arc::new(def),
            deleted,
            wave: 0,
            waved_at: Timestamp(0),
            recruited: Arc::default(),
            shards: Arc::new([const { None }; SHARDS as usize]),
        }
    }

    /// Takes in a wave; the same one again changes nothing.
    pub(crate) fn put_wave(&mut self, wave: &Wave) {
        *Arc::make_mut(&mut self.recruited) |= &wave.agents.0;
        self.wave = self.wave.max(wave.wave);
        self.waved_at = self.waved_at.max(wave.committed_at);
    }

    pub(crate) fn put_progress(&mut self, shard: Shard, progress: ShardProgress) {
        Arc::make_mut(&mut self.shards)[shard.index()] = Some(Arc::new(progress));
    }

    pub(crate) fn progress(&self, shard: Shard) -> Option<&ShardProgress> {
        self.shards[shard.index()].as_deref()
    }

    pub(crate) fn is_recruited(&self, agent: AgentNo) -> bool {
        self.recruited.contains(agent.0)
    }

    pub(crate) fn is_terminal(&self, agent: AgentNo) -> bool {
        self.progress(agent.shard()).is_some_and(|progress| progress.is_terminal(agent))
    }

    pub(crate) fn is_delivered(&self, agent: AgentNo) -> bool {
        self.progress(agent.shard()).is_some_and(|progress| progress.is_delivered(agent))
    }

    /// Agents the fold knows to have this outcome.
    pub(crate) fn agents(&self, outcome: Outcome) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        for shard in Shard::all() {
            if let Some(progress) = self.progress(shard) {
                all |= progress.agents(shard, outcome).0;
            }
        }
        all
    }

    /// Agents whose task is not over.
    pub(crate) fn unfinished(&self) -> RoaringBitmap {
        let terminal = |agent: &u32| !self.is_terminal(AgentNo(*agent));
        self.recruited.iter().filter(terminal).collect()
    }

    pub(crate) fn ended_count(&self) -> u64 {
        self.known().map(ShardProgress::terminal_count).sum()
    }

    pub(crate) fn row_count(&self) -> u64 {
        self.known().map(|progress| progress.row_count).sum()
    }

    pub(crate) fn byte_count(&self) -> u64 {
        self.known().map(|progress| progress.byte_count).sum()
    }

    pub(crate) fn tally(&self) -> Tally {
        let count = |outcome| -> u64 { self.known().map(|p| p.count(outcome)).sum() };
        Tally {
            ended: self.ended_count() - count(Outcome::Unsupported),
            errors: count(Outcome::Failed) + count(Outcome::TimedOut),
            rows: self.row_count(),
            bytes: self.byte_count(),
        }
    }

    fn known(&self) -> impl Iterator<Item = &ShardProgress> {
        self.shards.iter().flatten().map(|progress| &**progress)
    }
}
