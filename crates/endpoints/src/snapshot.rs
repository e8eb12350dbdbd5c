//! The directory at one moment: cheap to copy, read without a lock.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use muster_types::{AgentNo, EndpointNo, LabelNo, OrgId};
use roaring::RoaringBitmap;

use crate::model::{Agent, AgentFacts, AgentState, Endpoint, Label, capability};
use crate::table::Table;

/// Endpoints, agents and labels of all organisations as of one change of the feed.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) version: i64,
    pub(crate) endpoints: Table<Endpoint>,
    pub(crate) agents: Table<Agent>,
    pub(crate) labels: BTreeMap<LabelNo, Arc<Label>>,
    pub(crate) facts: HashSet<Arc<AgentFacts>>,
    pub(crate) everybody: Everybody,
}

/// The numbers of all endpoints that are not deleted, by organisation: counted when first asked for, because
/// every hunt asks. A copy of a snapshot is made to be changed, and counts anew.
#[derive(Debug, Default)]
pub(crate) struct Everybody(OnceLock<BTreeMap<OrgId, RoaringBitmap>>);

impl Clone for Everybody {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Snapshot {
    /// The feed's number of the last change in it. Equal numbers mean equal snapshots.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// One agent, retired ones too.
    #[must_use]
    pub fn agent(&self, no: AgentNo) -> Option<&Arc<Agent>> {
        self.agents.get(no.0)
    }

    /// One endpoint that is not deleted.
    #[must_use]
    pub fn endpoint(&self, no: EndpointNo) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(no.0).filter(|endpoint| endpoint.deleted_at.is_none())
    }

    /// One endpoint, deleted ones too.
    #[must_use]
    pub fn endpoint_or_tombstone(&self, no: EndpointNo) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(no.0)
    }

    /// The endpoints of an organisation that are not deleted, by rising number.
    pub fn endpoints(&self, org: OrgId) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter().filter(move |e| e.org == org && e.deleted_at.is_none())
    }

    /// The numbers of the endpoints of an organisation that are not deleted.
    pub(crate) fn everybody(&self, org: OrgId) -> RoaringBitmap {
        let counted = self.everybody.0.get_or_init(|| {
            let mut all: BTreeMap<OrgId, RoaringBitmap> = BTreeMap::new();
            for endpoint in self.endpoints.iter().filter(|e| e.deleted_at.is_none()) {
                all.entry(endpoint.org).or_default().insert(endpoint.no.0);
            }
            all
        });
        counted.get(&org).cloned().unwrap_or_default()
    }

    /// The agents of an organisation, retired ones too, by rising number.
    pub fn agents(&self, org: OrgId) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents.iter().filter(move |agent| agent.org == org)
    }

    /// How many agents there are, of all organisations, retired ones too.
    #[must_use]
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// The agents of an endpoint, rising; empty when it is unknown.
    #[must_use]
    pub fn agents_of(&self, endpoint: EndpointNo) -> &[AgentNo] {
        self.endpoints.get(endpoint.0).map_or(&[], |endpoint| &endpoint.agents)
    }

    /// The most capable active agent of an endpoint among those `wanted`; of equal ones the newest.
    #[must_use]
    pub fn best_agent(
        &self,
        endpoint: EndpointNo,
        mut wanted: impl FnMut(&Agent) -> bool,
    ) -> Option<&Arc<Agent>> {
        self.agents_of(endpoint)
            .iter()
            .filter_map(|no| self.agent(*no))
            .filter(|agent| agent.state == AgentState::Active && wanted(agent))
            .max_by_key(|agent| (capability(agent.kind), agent.no))
    }

    /// The agent that a task goes to: the most capable among those `wanted`; of equal ones the first
    /// enrolled. Who enrols later under a machine's identity is asked only while the earlier one is away:
    /// a machine identity can be read by anybody on the machine, so it proves nothing.
    #[must_use]
    pub fn agent_to_ask(
        &self,
        endpoint: EndpointNo,
        mut wanted: impl FnMut(&Agent) -> bool,
    ) -> Option<&Arc<Agent>> {
        self.agents_of(endpoint)
            .iter()
            .filter_map(|no| self.agent(*no))
            .filter(|agent| agent.state == AgentState::Active && wanted(agent))
            .max_by_key(|agent| (capability(agent.kind), std::cmp::Reverse(agent.no)))
    }

    /// The agent that speaks for an endpoint in lists: the best active one, else the newest.
    #[must_use]
    pub fn primary_agent(&self, endpoint: EndpointNo) -> Option<&Arc<Agent>> {
        let newest = || self.agents_of(endpoint).last().and_then(|no| self.agent(*no));
        self.best_agent(endpoint, |_| true).or_else(newest)
    }

    /// A label that is not deleted, by name.
    #[must_use]
    pub fn label(&self, org: OrgId, name: &str) -> Option<&Arc<Label>> {
        self.labels(org).find(|label| &*label.name == name)
    }

    /// The labels of an organisation that are not deleted, by number.
    pub fn labels(&self, org: OrgId) -> impl Iterator<Item = &Arc<Label>> {
        self.labels.values().filter(move |label| label.org == org && !label.deleted)
    }

    /// The labels an endpoint has, by number.
    pub fn labels_of(&self, endpoint: &Endpoint) -> impl Iterator<Item = &Arc<Label>> {
        let no = endpoint.no.0;
        self.labels(endpoint.org).filter(move |label| label.members.contains(no))
    }

    /// The shared copy of these facts.
    pub(crate) fn intern(&mut self, facts: AgentFacts) -> Arc<AgentFacts> {
        if let Some(known) = self.facts.get(&facts) {
            return Arc::clone(known);
        }
        let facts = Arc::new(facts);
        self.facts.insert(Arc::clone(&facts));
        facts
    }

    /// Takes in a new or changed agent and keeps the list of its endpoint right.
    pub(crate) fn put_agent(&mut self, agent: Agent) {
        let (no, endpoint) = (agent.no, agent.endpoint);
        let previous = self.agents.put(no.0, Arc::new(agent));
        if previous.as_ref().is_some_and(|previous| previous.endpoint == endpoint) {
            return;
        }
        if let Some(previous) = previous {
            self.edit_agents(previous.endpoint, |agents| agents.retain(|one| *one != no));
        }
        self.edit_agents(endpoint, |agents| {
            if let Err(at) = agents.binary_search(&no) {
                agents.insert(at, no);
            }
        });
    }

    /// Takes in a new or changed endpoint; its agents stay.
    pub(crate) fn put_endpoint(&mut self, mut endpoint: Endpoint) {
        if let Some(previous) = self.endpoints.get(endpoint.no.0) {
            endpoint.agents.clone_from(&previous.agents);
        }
        self.endpoints.put(endpoint.no.0, Arc::new(endpoint));
    }

    fn edit_agents(&mut self, endpoint: EndpointNo, edit: impl FnOnce(&mut Vec<AgentNo>)) {
        self.endpoints.edit(endpoint.0, |entry| {
            let mut agents = std::mem::take(&mut entry.agents).into_vec();
            edit(&mut agents);
            entry.agents = agents.into_boxed_slice();
        });
    }
}
