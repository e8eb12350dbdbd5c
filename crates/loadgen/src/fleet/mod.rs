//! What a simulated fleet is made of.

mod data;
mod endpoint;
mod plant;
mod tables;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use endpoint::Endpoint;
pub use plant::{Plant, PlantCount, UnknownPlant};
pub use tables::{Current, tables};

/// The whole fleet: who carries which plant, who is offline, who misbehaves.
#[derive(Clone, Debug)]
pub struct Fleet {
    seed: u64,
    endpoints: u32,
    plants: BTreeMap<Plant, BTreeSet<u32>>,
    offline: BTreeSet<u32>,
    failing: BTreeSet<u32>,
    silent: BTreeSet<u32>,
    lying: BTreeSet<u32>,
}

/// How many endpoints are in which special set.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// All endpoints.
    pub endpoints: u32,
    /// Carriers of each plant.
    pub plants: Vec<PlantCount>,
    /// Away at first.
    pub offline: u32,
    /// Answering with errors.
    pub failing: u32,
    /// Never answering.
    pub silent: u32,
    /// Answering what they were not asked.
    pub lying: u32,
}

impl Fleet {
    /// A fleet; each set has exactly the size asked for, or all endpoints when there are fewer.
    #[must_use]
    pub fn new(seed: u64, shape: &Shape) -> Self {
        let pick = |what: &str, count: u32| pick(seed, what, shape.endpoints, count);
        let mut plants = BTreeMap::new();
        for planted in &shape.plants {
            plants.insert(planted.plant, pick(planted.plant.name(), planted.count));
        }
        Self {
            seed,
            endpoints: shape.endpoints,
            plants,
            offline: pick("offline", shape.offline),
            failing: pick("failing", shape.failing),
            silent: pick("silent", shape.silent),
            lying: pick("lying", shape.lying),
        }
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.endpoints
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints == 0
    }

    /// One endpoint.
    #[must_use]
    pub fn endpoint(&self, number: u32) -> Endpoint {
        let carried = self.plants.iter().filter(|(_, carriers)| carriers.contains(&number));
        Endpoint::new(self.seed, number, carried.map(|(plant, _)| *plant).collect())
    }

    /// Names of the carriers of each plant: what a perfect hunt finds.
    #[must_use]
    pub fn carriers(&self) -> BTreeMap<&'static str, Vec<String>> {
        let name = |number: &u32| Endpoint::new(self.seed, *number, Vec::new()).hostname();
        let names = |carriers: &BTreeSet<u32>| carriers.iter().map(name).collect();
        self.plants.iter().map(|(plant, carriers)| (plant.name(), names(carriers))).collect()
    }

    /// Whether an endpoint stays away at first.
    #[must_use]
    pub fn is_offline(&self, number: u32) -> bool {
        self.offline.contains(&number)
    }

    /// Whether an endpoint answers with errors.
    #[must_use]
    pub fn is_failing(&self, number: u32) -> bool {
        self.failing.contains(&number)
    }

    /// Whether an endpoint never answers.
    #[must_use]
    pub fn is_silent(&self, number: u32) -> bool {
        self.silent.contains(&number)
    }

    /// Whether an endpoint answers what it was not asked.
    #[must_use]
    pub fn is_lying(&self, number: u32) -> bool {
        self.lying.contains(&number)
    }
}

/// Exactly `count` numbers below `all`, chosen by the seed and a word.
fn pick(seed: u64, what: &str, all: u32, count: u32) -> BTreeSet<u32> {
    let mut rng = rng(seed, what, 0);
    let count = count.min(all) as usize;
    let chosen = rand::seq::index::sample(&mut rng, all as usize, count);
    chosen.into_iter().filter_map(|number| u32::try_from(number).ok()).collect()
}

/// Randomness for one purpose and one endpoint.
pub(crate) fn rng(seed: u64, what: &str, number: u32) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(bytes(seed, what, number))
}

/// 32 bytes that follow from the seed, a purpose and an endpoint.
pub(crate) fn bytes(seed: u64, what: &str, number: u32) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(number.to_le_bytes())
        .chain_update(what);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_everything_and_sets_have_their_size() {
        let plants = vec!["cron-dropper=3".parse().unwrap(), "deleted-binary=5".parse().unwrap()];
        let shape = Shape { endpoints: 200, plants, offline: 20, failing: 2, silent: 1, lying: 1 };
        let (fleet, same, other) =
            (Fleet::new(7, &shape), Fleet::new(7, &shape), Fleet::new(8, &shape));
        assert_eq!(fleet.carriers(), same.carriers());
        assert_ne!(fleet.carriers(), other.carriers());
        assert_eq!(fleet.carriers()["cron-dropper"].len(), 3);
        assert_eq!((0..200).filter(|n| fleet.is_offline(*n)).count(), 20);
        let names: BTreeSet<String> = (0..200).map(|n| fleet.endpoint(n).hostname()).collect();
        assert_eq!(names.len(), 200);
        assert_eq!(fleet.endpoint(9).key_seed(), same.endpoint(9).key_seed());
        assert_ne!(fleet.endpoint(9).key_seed(), fleet.endpoint(10).key_seed());
    }
}
