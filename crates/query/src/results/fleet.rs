//! Endpoints and agents as result tables need them: who is seen, and where they belong.

use std::sync::Arc;

use arrow::array::{Int64Array, StringViewArray};
use muster_endpoints::{AgentState, Snapshot};
use muster_types::Access;
use roaring::RoaringBitmap;

const NONE: u32 = u32::MAX;

/// The directory, cut to one asker.
pub(crate) struct Fleet {
    pub snapshot: Snapshot,
    /// The agents whose rows the asker sees; `None` for every one there is or was.
    seen: Option<Arc<RoaringBitmap>>,
    /// Agent number to a place in the arrays below.
    slots: Vec<u32>,
    numbers: Int64Array,
    names: StringViewArray,
}

impl Fleet {
    pub(crate) fn new(snapshot: Snapshot, access: &Access) -> Self {
        let mut slots = Vec::new();
        let (mut numbers, mut names) = (Vec::new(), Vec::new());
        for endpoint in snapshot.endpoints(access.org) {
            let slot = u32::try_from(numbers.len()).expect("fewer endpoints than numbers");
            numbers.push(i64::from(endpoint.no.0));
            names.push(&*endpoint.name);
            for agent in endpoint.agents.iter().filter(|no| access.allows(access.org, **no)) {
                let at = agent.0 as usize;
                if slots.len() <= at {
                    slots.resize(at + 1, NONE);
                }
                slots[at] = slot;
            }
        }
        let retired: RoaringBitmap = snapshot
            .agents(access.org)
            .filter(|agent| agent.state == AgentState::Retired)
            .map(|agent| agent.no.0)
            .collect();
        let seen = match &access.agents {
            Some(agents) => Some(&agents.0 - &retired),
            None if retired.is_empty() => None,
            None => Some(
                snapshot.agents(access.org).map(|agent| agent.no.0).collect::<RoaringBitmap>()
                    - retired,
            ),
        };
        let (numbers, names) = (Int64Array::from(numbers), StringViewArray::from(names));
        Self { seen: seen.map(Arc::new), snapshot, slots, numbers, names }
    }

    /// The agents whose rows the asker sees; `None` when that is everybody's.
    pub(crate) fn seen(&self) -> Option<&Arc<RoaringBitmap>> {
        self.seen.as_ref()
    }

    /// Where an agent's endpoint stands in [`Fleet::numbers`] and [`Fleet::names`].
    pub(crate) fn slot(&self, agent: i64) -> Option<u32> {
        let at = usize::try_from(agent).ok()?;
        self.slots.get(at).copied().filter(|slot| *slot != NONE)
    }

    pub(crate) fn numbers(&self) -> &Int64Array {
        &self.numbers
    }

    pub(crate) fn names(&self) -> &StringViewArray {
        &self.names
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}
