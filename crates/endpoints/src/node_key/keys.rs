//! Judging the keys that come in, by the ring and the directory.

use std::sync::Arc;
use std::time::Duration;

use muster_types::{AgentNo, OrgId, Timestamp};

use super::{KeyRing, Known, NodeKey, Rejected, Unread, judge};
use crate::{Agent, Directory};

/// A directory that was read longer ago is not fresh: nobody is told that a key is bad then.
const FRESH_WITHIN: Duration = Duration::from_secs(10);
/// The ring is read every ten seconds.
const RING_FRESH_WITHIN: Duration = Duration::from_secs(30);

/// Issues and judges node keys, in memory alone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeKeys {
    ring: KeyRing,
    directory: Directory,
    fresh_within: Duration,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Node {
    /// Organisation.
    pub org: OrgId,
    /// Number.
    pub agent: AgentNo,
    /// Whether its key is good only together with a client certificate.
    pub with_certificate: bool,
    /// The agent, unless it has just enrolled elsewhere.
    pub known: Option<Arc<Agent>>,
}

impl NodeKeys {
    /// With this ring, for the agents of this directory.
    #[must_use]
    pub fn new(ring: KeyRing, directory: Directory) -> Self {
        Self { ring, directory, fresh_within: FRESH_WITHIN }
    }

    /// The same with another bound on how old the directory may be.
    #[must_use]
    pub fn with_fresh_within(self, fresh_within: Duration) -> Self {
        Self { fresh_within, ..self }
    }

    /// The ring, for other tokens of agents.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// A key as the agent gets it.
    #[must_use]
    pub fn issue(&self, key: &NodeKey) -> String {
        key.sign(&self.ring)
    }

    /// Whose key it is, when it is good now. Reads memory only.
    ///
    /// # Errors
    /// [`Rejected`]: whether the agent shall enrol again, or come again as it is.
    pub fn judge(&self, text: &str, now: Timestamp) -> Result<Node, Rejected> {
        let fresh = || self.directory.is_fresh(self.fresh_within);
        let key = NodeKey::read(text, &self.ring).map_err(|unread| match unread {
            Unread::Foreign if fresh() => Rejected::Invalid,
            Unread::UnknownKey if fresh() && self.ring.is_fresh(RING_FRESH_WITHIN) => {
                Rejected::Invalid
            }
            Unread::Foreign | Unread::UnknownKey => Rejected::Unsure,
        })?;
        let known = self.directory.current().agent(key.agent).cloned();
        let facts = known.as_deref().map(|agent| Known {
            org: agent.org,
            state: agent.state,
            issued_at: agent.key_issued_at,
        });
        judge(&key, facts, now, fresh)?;
        Ok(Node { org: key.org, agent: key.agent, with_certificate: key.with_certificate, known })
    }
}
