//! What a caller may see: part of every read path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AgentSet, OrgId};

/// What a person may do, rising. Each is granted on a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees.
    Viewer,
    /// Sees and asks: queries, hunts, collections without effect.
    Analyst,
    /// Acts on endpoints as well.
    Responder,
    /// Manages people, secrets and settings as well.
    Administrator,
}

impl Role {
    /// All roles, rising.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Analyst, Self::Responder, Self::Administrator];

    /// The word used in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Analyst => "analyst",
            Self::Responder => "responder",
            Self::Administrator => "administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| {
            format!("unknown role {word:?}; known are viewer, analyst, responder, administrator")
        })
    }
}

/// The agents a caller may see in one organisation, resolved at the time of the call.
///
/// `agents: None` is everything in the organisation, including agents that enrol later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// The caller's organisation.
    pub org: OrgId,
    /// The agents in the caller's scope; `None` for all.
    #[serde(with = "agents_as_bytes")]
    pub agents: Option<AgentSet>,
}

impl Access {
    /// Everything in the organisation.
    #[must_use]
    pub fn all(org: OrgId) -> Self {
        Self { org, agents: None }
    }

    /// Whether the caller may know of this agent.
    #[must_use]
    pub fn allows(&self, org: OrgId, agent: crate::AgentNo) -> bool {
        self.org == org && self.agents.as_ref().is_none_or(|set| set.contains(agent))
    }
}

mod agents_as_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::AgentSet;

    pub fn serialize<S: Serializer>(set: &Option<AgentSet>, to: S) -> Result<S::Ok, S::Error> {
        set.as_ref().map(AgentSet::to_bytes).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AgentSet>, D::Error> {
        let bytes: Option<Vec<u8>> = Option::deserialize(from)?;
        bytes.map(|b| AgentSet::from_bytes(&b).map_err(serde::de::Error::custom)).transpose()
    }
}
