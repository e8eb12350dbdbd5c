//! What the directory holds in memory of each agent, endpoint and label.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use muster_types::{AgentKind, AgentNo, EndpointNo, LabelNo, OrgId, Timestamp};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

/// Whether an agent may talk to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// It may.
    Active,
    /// A person shut it out; it may be let in again.
    Blocked,
    /// Its endpoint was deleted. For ever.
    Retired,
}

impl AgentState {
    /// The word used in the API, SQL and the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Blocked => "blocked",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AgentState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Active, Self::Blocked, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| format!("unknown agent state {word:?}"))
    }
}

/// What many agents have in common; agents of one build on one system share it in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentFacts {
    /// `linux`, `darwin`, `windows`.
    pub platform: Box<str>,
    /// For example `Debian GNU/Linux`.
    pub os_name: Box<str>,
    /// For example `12.4`.
    pub os_version: Box<str>,
    /// For example `x86_64`.
    pub arch: Box<str>,
    /// Version of the agent program.
    pub version: Box<str>,
    /// What it can do, words divided by spaces.
    pub capabilities: Box<str>,
}

/// One enrolment of one agent program.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its number.
    pub no: AgentNo,
    /// Whose.
    pub org: OrgId,
    /// The machine it runs on.
    pub endpoint: EndpointNo,
    /// Which program.
    pub kind: AgentKind,
    /// Whether it may talk to us.
    pub state: AgentState,
    /// Host name by its own account.
    pub hostname: Box<str>,
    /// System and version.
    pub facts: Arc<AgentFacts>,
    /// Its key, where its kind has one.
    pub public_key: Option<Box<[u8]>>,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// From when on its key is good.
    pub key_issued_at: Timestamp,
    /// As last folded into the catalog; [`crate::Presence`] knows better.
    pub last_seen: Timestamp,
    /// Where it last came from.
    pub last_address: Box<str>,
    /// The agent whose identity it had copied.
    pub clone_of: Option<AgentNo>,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its number.
    pub no: EndpointNo,
    /// Whose.
    pub org: OrgId,
    /// Its name; not unique.
    pub name: Box<str>,
    /// When it first appeared.
    pub created_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// Its agents, rising, retired ones too.
    pub agents: Box<[AgentNo]>,
}

/// A named set of endpoints.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its number.
    pub no: LabelNo,
    /// Whose.
    pub org: OrgId,
    /// Its name, unique in the organisation.
    pub name: Box<str>,
    /// What it is for.
    pub description: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: Box<str>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Endpoint numbers.
    pub members: RoaringBitmap,
}

/// How much a kind can do; a hunt takes the most capable one.
pub(crate) fn capability(kind: AgentKind) -> u8 {
    match kind {
        AgentKind::Native => 4,
        AgentKind::Velociraptor => 3,
        AgentKind::Fleetspeak => 2,
        AgentKind::Osquery => 1,
    }
}
