//! Kinds of agent programs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which agent program an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum AgentKind {
    /// Muster's own agent.
    Native = 1,
    /// osqueryd over its TLS protocol.
    Osquery = 2,
    /// A Velociraptor client.
    Velociraptor = 3,
    /// A Fleetspeak client, with the GRR agent behind it.
    Fleetspeak = 4,
}

/// A word or code that names no agent kind.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown agent kind {0:?}; known are native, osquery, velociraptor, fleetspeak")]
pub struct UnknownAgentKind(String);

impl AgentKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Native, Self::Osquery, Self::Velociraptor, Self::Fleetspeak];

    /// The word used in the API, SQL and artifacts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Osquery => "osquery",
            Self::Velociraptor => "velociraptor",
            Self::Fleetspeak => "fleetspeak",
        }
    }

    /// The kind of a stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }
}

impl fmt::Display for AgentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AgentKind {
    type Err = UnknownAgentKind;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownAgentKind(word.to_owned()))
    }
}
