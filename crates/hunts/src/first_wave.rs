//! The first wave of a question: committed with the question itself.

use muster_types::AgentSet;

use crate::choose::choose;
use crate::scopes::resolve;
use crate::{HuntKind, Hunts, NewHunt};

/// Endpoints of a first wave. Larger scopes are left to the dispatcher: the transaction that makes a hunt is
/// one that people wait for.
const MOST: u64 = 4_096;

impl Hunts {
    /// The agents that a new question can go to at once, for [`crate::create`]: of each endpoint in scope
    /// that is online the most capable one. Nobody for a hunt, which is recruited at its rate, for one
    /// that waits for a second person, and for a scope of more than 4,096 endpoints: these, who comes online
    /// later, and who has no agent that can do it are the dispatcher's.
    ///
    /// Who is recruited at once is asked a commit, a hint and a wake-up sooner. No dispatcher can know the
    /// question yet, so there is nobody to fence against.
    #[must_use]
    pub fn first_wave(&self, new: &NewHunt) -> AgentSet {
        if new.kind == HuntKind::Hunt || new.needs_approval {
            return AgentSet::default();
        }
        let snapshot = self.inner.directory.snapshot();
        let asked = (new.org, &new.scope, new.caller_scope.as_slice());
        let (endpoints, _) = resolve(asked, &snapshot, &self.inner.presence);
        if endpoints.len() > MOST {
            return AgentSet::default();
        }
        let most = match new.limits.endpoints_max {
            0 => usize::MAX,
            most => most as usize,
        };
        let supports = |kind| new.definition.sources.contains_key(&kind);
        let online = |agent| self.inner.presence.is_online(agent);
        let chosen = choose(&supports, &snapshot, &endpoints, &online, most);
        chosen.iter().filter(|choice| choice.supported).map(|choice| choice.agent).collect()
    }
}
