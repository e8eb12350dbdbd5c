//! The sessions a job is for, found a slice at a time.

use std::sync::Arc;

use muster_types::{AgentNo, AgentSet, SHARDS, Shard};

use crate::Sessions;
use crate::session::Session;

/// Looking an agent up that is not connected here costs about a tenth of a push.
const LOOKED_UP_PER_PUSH: usize = 8;

/// Sessions to come. Finding 100,000 at once would hold everything else up for milliseconds.
pub(super) struct Who {
    agents: roaring::bitmap::IntoIter,
    agents_left: usize,
    shards: Vec<Shard>,
    found: Vec<Arc<Session>>,
}

impl Who {
    /// These agents, as far as they are connected here.
    pub(super) fn agents(agents: &AgentSet) -> Self {
        let agents_left = usize::try_from(agents.len()).unwrap_or(usize::MAX);
        let agents = agents.0.clone().into_iter();
        Self { agents, agents_left, shards: Vec::new(), found: Vec::new() }
    }

    /// These sessions.
    pub(super) fn listed(found: Vec<Arc<Session>>) -> Self {
        Self { found, ..Self::agents(&AgentSet::default()) }
    }

    /// All that are connected here.
    pub(super) fn everybody() -> Self {
        Self { shards: Shard::all().collect(), ..Self::listed(Vec::new()) }
    }

    /// About how much is left; exact when it is nothing.
    pub(super) fn left(&self) -> usize {
        // A shard counts as much, so that a pass over everybody comes after smaller things.
        self.agents_left + self.found.len() + self.shards.len() * usize::from(SHARDS) * 16
    }

    /// The next ones, at most `most`; none does not mean the end.
    pub(super) fn take(&mut self, sessions: &Sessions, most: usize) -> Vec<Arc<Session>> {
        let mut taken = Vec::with_capacity(most.min(self.left()));
        for _ in 0..most * LOOKED_UP_PER_PUSH {
            if taken.len() == most {
                return taken;
            }
            let Some(agent) = self.agents.next() else {
                self.agents_left = 0;
                break;
            };
            self.agents_left = self.agents_left.saturating_sub(1);
            taken.extend(sessions.get(AgentNo(agent)));
        }
        if self.agents_left > 0 {
            return taken;
        }
        if self.found.is_empty()
            && let Some(shard) = self.shards.pop()
        {
            self.found = sessions.of_shard(shard);
        }
        let rest = self.found.len().saturating_sub(most - taken.len());
        taken.extend(self.found.drain(rest..));
        taken
    }
}
