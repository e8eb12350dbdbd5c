//! Sets of agents as compressed bitmaps.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::AgentNo;

/// A set of agent numbers; about two bits per agent when dense, two bytes when sparse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentSet(pub RoaringBitmap);

impl AgentSet {
    /// Adds an agent; whether it was new.
    pub fn insert(&mut self, agent: AgentNo) -> bool {
        self.0.insert(agent.0)
    }

    /// Whether the agent is in it.
    #[must_use]
    pub fn contains(&self, agent: AgentNo) -> bool {
        self.0.contains(agent.0)
    }

    /// How many agents are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether it holds nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The agents, rising.
    pub fn iter(&self) -> impl Iterator<Item = AgentNo> + '_ {
        self.0.iter().map(AgentNo)
    }

    /// The portable serialised form of the Roaring format specification.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut bytes).expect("writing to a vector does not fail");
        bytes
    }

    /// Reads what [`AgentSet::to_bytes`] wrote; validates it.
    ///
    /// # Errors
    /// When the bytes are not a well-formed bitmap.
    pub fn from_bytes(bytes: &[u8]) -> std::io::Result<Self> {
        RoaringBitmap::deserialize_from(bytes).map(Self)
    }
}

impl FromIterator<AgentNo> for AgentSet {
    fn from_iter<I: IntoIterator<Item = AgentNo>>(agents: I) -> Self {
        Self(agents.into_iter().map(|agent| agent.0).collect())
    }
}
