//! Endpoints and agents as result tables need them: where they belong.

use arrow::array::{Int64Array, StringViewArray};
use muster_endpoints::Snapshot;
use muster_types::Access;

const NONE: u32 = u32::MAX;

/// The directory, cut to one asker.
pub(crate) struct Fleet {
    pub snapshot: Snapshot,
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
        let (numbers, names) = (Int64Array::from(numbers), StringViewArray::from(names));
        Self { snapshot, slots, numbers, names }
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
