//! Policies in memory, for whoever hands them out and whoever takes their answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_endpoints::{Agent, Snapshot};
use muster_types::{OrgId, Timestamp};

use super::{Policy, PolicyNo};
use crate::Platform;

type Known = BTreeMap<PolicyNo, Arc<Policy>>;

/// All policies of all organisations; deleted ones too, because answers to them may be on their way.
#[derive(Debug, Default)]
pub struct Policies(ArcSwap<Known>);

impl Policies {
    /// Takes in new and changed ones. One writer at a time.
    pub(crate) fn put(&self, changed: Vec<Policy>) {
        if changed.is_empty() {
            return;
        }
        let mut known = Known::clone(&self.0.load());
        known.extend(changed.into_iter().map(|policy| (policy.no, Arc::new(policy))));
        self.0.store(Arc::new(known));
    }

    /// When the question of one that is asked last changed.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        let known = self.0.load();
        known.values().filter(|policy| is_asked(policy)).map(|policy| policy.asked_since).max()
    }

    /// Whether there is or was such a policy.
    pub(crate) fn knows(&self, org: OrgId, no: PolicyNo) -> bool {
        self.0.load().get(&no).is_some_and(|policy| policy.org == org)
    }

    /// Those of an organisation that are not deleted, by number.
    pub(crate) fn list(&self, org: OrgId) -> Vec<Arc<Policy>> {
        let known = self.0.load();
        known.values().filter(|p| p.org == org && !p.deleted).map(Arc::clone).collect()
    }

    /// What an agent is to be asked: everything that applies, or what changed in or after `newer`, in
    /// seconds since 1970.
    pub(crate) fn of(
        &self,
        agent: &Agent,
        platform: Option<Platform>,
        snapshot: &Snapshot,
        newer: Option<u32>,
    ) -> Vec<(PolicyNo, Arc<str>)> {
        let known = self.0.load();
        let has = |label: &String| {
            let label = snapshot.label(agent.org, label);
            label.is_some_and(|label| label.members.contains(agent.endpoint.0))
        };
        known
            .values()
            .filter(|policy| policy.org == agent.org && is_asked(policy))
            .filter(|policy| {
                newer.is_none_or(|at| crate::inventory::seconds(policy.asked_since) >= at)
            })
            .filter(|policy| policy.is_for(platform))
            .filter(|policy| policy.text.labels.is_empty() || policy.text.labels.iter().any(has))
            .filter(|policy| !policy.text.exclude_labels.iter().any(has))
            .map(|policy| (policy.no, Arc::clone(&policy.sql)))
            .collect()
    }
}

fn is_asked(policy: &Policy) -> bool {
    policy.text.enabled && !policy.deleted
}
