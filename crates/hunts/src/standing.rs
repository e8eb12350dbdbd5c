//! One outcome for every endpoint in a hunt's scope.

use muster_endpoints::{AgentState, Snapshot};
use muster_types::{Access, AgentNo, EndpointNo, Outcome, Timestamp};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::HuntKind;
use crate::entry::Entry;

const OUTCOMES: usize = Outcome::ALL.len();

/// How many endpoints have which outcome. They sum to `total`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    counts: [u64; OUTCOMES],
    /// Endpoints in the scope, as far as the asker sees them.
    pub total: u64,
    /// Of these, endpoints with a task.
    pub recruited: u64,
    /// Rows stored; `None` for an asker who does not see every endpoint.
    pub row_count: Option<u64>,
    /// Bytes of rows; `None` as for `row_count`.
    pub byte_count: Option<u64>,
}

impl Coverage {
    /// Endpoints with this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// All outcomes with their counts, in the order they are shown.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(self.counts)
    }

    /// Endpoints whose outcome can change no more.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.iter().filter(|(outcome, _)| outcome.is_terminal()).map(|(_, count)| count).sum()
    }
}

/// One endpoint's part in a hunt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointOutcome {
    /// The endpoint.
    pub endpoint: EndpointNo,
    /// The agent that was recruited.
    pub agent: Option<AgentNo>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Every endpoint of a hunt, by outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// Recruited agents by outcome.
    agents: [RoaringBitmap; OUTCOMES],
    /// Endpoints in the scope without a task.
    pub(crate) unrecruited: RoaringBitmap,
    /// What those are.
    left_out: Outcome,
}

impl Standing {
    /// `scope` is what the hunt's scope means now, `now` judges deadlines.
    pub(crate) fn of(
        entry: &Entry,
        snapshot: &Snapshot,
        scope: &RoaringBitmap,
        now: Timestamp,
    ) -> Self {
        let def = &entry.def;
        let mut agents: [RoaringBitmap; OUTCOMES] = Default::default();
        let mut open = (*entry.recruited).clone();
        for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.is_terminal()) {
            let set = entry.agents(outcome) & &open;
            open -= &set;
            agents[outcome as usize] = set;
        }
        let (waiting, running) = def.open_outcomes(now);
        for agent in &open {
            let agent = AgentNo(agent);
            let retired = snapshot.agent(agent).is_some_and(|a| a.state == AgentState::Retired);
            let outcome = match (retired, entry.is_delivered(agent)) {
                (true, _) => Outcome::Retired,
                (false, true) => running,
                (false, false) => waiting,
            };
            agents[outcome as usize].insert(agent.0);
        }
        let unrecruited = unrecruited(entry, snapshot, scope);
        Self { agents, unrecruited, left_out: def.unrecruited_outcome() }
    }

    /// The part an asker sees.
    pub(crate) fn seen_by(mut self, snapshot: &Snapshot, access: &Access) -> Self {
        if let Some(seen) = &access.agents {
            for set in &mut self.agents {
                *set &= &seen.0;
            }
            let allowed = |no: &u32| {
                let endpoint = snapshot.endpoint(EndpointNo(*no));
                endpoint.is_some_and(|endpoint| snapshot.allows(access, endpoint))
            };
            self.unrecruited = self.unrecruited.iter().filter(allowed).collect();
        }
        self
    }

    /// How many have which outcome. Rows are counted for all of the hunt together, so they are told to those who
    /// see all of it.
    pub(crate) fn coverage_of(&self, entry: &Entry, access: &Access) -> Coverage {
        let mut coverage = Coverage::default();
        if access.agents.is_none() {
            coverage.row_count = Some(entry.row_count());
            coverage.byte_count = Some(entry.byte_count());
        }
        for (count, set) in coverage.counts.iter_mut().zip(&self.agents) {
            *count = set.len();
        }
        coverage.recruited = coverage.counts.iter().sum();
        coverage.counts[self.left_out as usize] += self.unrecruited.len();
        coverage.total = coverage.recruited + self.unrecruited.len();
        coverage
    }

    /// Every endpoint, rising.
    pub(crate) fn endpoints(&self, snapshot: &Snapshot) -> Vec<EndpointOutcome> {
        let left_out = self.unrecruited.iter().map(|no| EndpointOutcome {
            endpoint: EndpointNo(no),
            agent: None,
            outcome: self.left_out,
        });
        let recruited = Outcome::ALL.into_iter().zip(&self.agents).flat_map(|(outcome, set)| {
            set.iter().filter_map(move |no| {
                let agent = snapshot.agent(AgentNo(no))?;
                Some(EndpointOutcome { endpoint: agent.endpoint, agent: Some(agent.no), outcome })
            })
        });
        let mut all: Vec<_> = left_out.chain(recruited).collect();
        all.sort_unstable();
        all
    }
}

/// Whether every recruited agent has ended, or is gone. Asked with each change of a hunt's progress,
/// so it stops at the first that has not.
pub(crate) fn recruited_have_ended(entry: &Entry, snapshot: &Snapshot) -> bool {
    let is_gone = |no| snapshot.agent(no).is_some_and(|agent| agent.state == AgentState::Retired);
    entry.ended_count() == entry.recruited.len()
        || entry.recruited.iter().map(AgentNo).all(|no| entry.is_terminal(no) || is_gone(no))
}

/// Endpoints in the scope without a task. Once the hunt has ended nobody joins it: neither endpoints
/// that appear later, nor, for a scope that asks who is online, anybody at all.
fn unrecruited(entry: &Entry, snapshot: &Snapshot, scope: &RoaringBitmap) -> RoaringBitmap {
    let mut left = scope - recruited_endpoints(entry, snapshot).0;
    if let Some(ended_at) = entry.def.ended_at {
        if entry.def.scope.online && entry.def.kind == HuntKind::Live {
            return RoaringBitmap::new();
        }
        let there =
            |no: &u32| snapshot.endpoint(EndpointNo(*no)).is_some_and(|e| e.created_at <= ended_at);
        left = left.iter().filter(there).collect();
    }
    left
}

/// The endpoints of all recruited agents, and the agents among them that the snapshot does not have.
pub(crate) fn recruited_endpoints(
    entry: &Entry,
    snapshot: &Snapshot,
) -> (RoaringBitmap, RoaringBitmap) {
    let (mut endpoints, mut unknown) = (RoaringBitmap::new(), RoaringBitmap::new());
    for no in &*entry.recruited {
        match snapshot.agent(AgentNo(no)) {
            Some(agent) => endpoints.insert(agent.endpoint.0),
            None => unknown.insert(no),
        };
    }
    (endpoints, unknown)
}
