//! Where agents belong, as result tables need it: much less than the directory, so read faster.

use std::collections::HashMap;

use arrow::array::{Int64Array, StringViewArray};
use muster_catalog::args;

use crate::Error;
use crate::question::Question;

const NONE: u32 = u32::MAX;
/// Agents read at once.
const RANGE: u32 = 20_000;

muster_catalog::statements! {
    /// One range of the agents, with their endpoints.
    PLACES = {
        sqlite: "
            SELECT json_group_array(json_array(a.no, a.endpoint_no, e.name)) AS places
            FROM agent a
            JOIN endpoint e ON e.no = a.endpoint_no
            WHERE a.no >= $1 AND a.no < $2 AND a.org = $3 AND e.deleted_at IS NULL",
        postgres: "
            SELECT COALESCE(json_agg(json_build_array(a.no, a.endpoint_no, e.name))::TEXT, '[]') AS places
            FROM agent a
            JOIN endpoint e ON e.no = a.endpoint_no
            WHERE a.no >= $1 AND a.no < $2 AND a.org = $3 AND e.deleted_at IS NULL"
    };
}

/// The endpoints of the agents whose rows an asker sees.
pub(crate) struct Fleet {
    /// Agent number to a place in the arrays below.
    slots: Vec<u32>,
    numbers: Int64Array,
    names: StringViewArray,
}

impl Fleet {
    pub(crate) async fn read(question: &Question) -> Result<Self, Error> {
        let access = &question.access;
        let (mut numbers, mut names) = (Vec::new(), Vec::new());
        let mut known: HashMap<u32, u32> = HashMap::new();
        let mut slots = Vec::new();
        let last = question.reach().await?.last;
        for from in (0..=last).step_by(RANGE as usize) {
            let range = args![from, i64::from(from) + i64::from(RANGE), i64::from(access.org.0)];
            let row = question.catalog.fetch_optional(&PLACES, range).await?;
            let places: String = row.map(|row| row.get("places")).transpose()?.unwrap_or_default();
            let places: Vec<(u32, u32, String)> = serde_json::from_str(&places)
                .map_err(|error| muster_catalog::Error::Other(format!("endpoints: {error}")))?;
            for (agent, endpoint, name) in places {
                if !access.allows(access.org, muster_types::AgentNo(agent)) {
                    continue;
                }
                let slot = *known.entry(endpoint).or_insert_with(|| {
                    numbers.push(i64::from(endpoint));
                    names.push(name);
                    u32::try_from(names.len() - 1).expect("fewer endpoints than numbers")
                });
                let at = agent as usize;
                if slots.len() <= at {
                    slots.resize(at + 1, NONE);
                }
                slots[at] = slot;
            }
        }
        Ok(Self { slots, numbers: numbers.into(), names: names.into() })
    }

    /// Where an agent's endpoint stands in [`Fleet::numbers`] and [`Fleet::names`].
    pub(crate) fn slot(&self, agent: i64) -> Option<u32> {
        let at = usize::try_from(agent).ok()?;
        self.slots.get(at).copied().filter(|slot| *slot != NONE)
    }

    /// The agents of an endpoint.
    pub(crate) fn agents_of(&self, endpoint: i64) -> Vec<u32> {
        let of = |slot: &u32| *slot != NONE && self.numbers.value(*slot as usize) == endpoint;
        let agents = self.slots.iter().enumerate().filter(|(_, slot)| of(slot));
        agents.filter_map(|(agent, _)| u32::try_from(agent).ok()).collect()
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
