//! From a scope as written to the endpoints it means now.

use muster_types::{Access, AgentNo, AgentSet, OrgId, ScopeSpec, Timestamp};
use roaring::RoaringBitmap;

use crate::condition::{Column, Condition, ConditionError, Fields};
use crate::{Agent, Endpoint, Snapshot};

/// What a scope needs to know that changes without the directory; [`crate::Presence`] does.
pub trait Live {
    /// Whether the agent is connected, or polled within the last 90 seconds.
    fn is_online(&self, agent: AgentNo) -> bool;
    /// When it was last heard of, if presence knows.
    fn last_seen(&self, agent: AgentNo) -> Option<Timestamp>;
    /// Now.
    fn now(&self) -> Timestamp;
}

/// What a scope means at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// Endpoint numbers.
    pub endpoints: RoaringBitmap,
}

/// Why a scope means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// No such label in the organisation.
    #[error("no label {name:?}{hint}")]
    UnknownLabel {
        /// As written.
        name: String,
        /// What may have been meant; begins with `; ` or is empty.
        hint: String,
    },
    /// No such endpoint in the organisation.
    #[error("no endpoint {0}")]
    UnknownEndpoint(muster_types::EndpointNo),
    /// The condition cannot be read.
    #[error(transparent)]
    Condition(#[from] ConditionError),
}

/// A scope made ready: labels found, the condition read.
#[derive(Clone, Debug)]
pub struct PreparedScope {
    spec: ScopeSpec,
    condition: Option<Condition>,
}

impl PreparedScope {
    /// Reads the condition.
    ///
    /// # Errors
    /// [`ScopeError::Condition`].
    pub fn new(spec: &ScopeSpec) -> Result<Self, ScopeError> {
        let condition = spec.condition.as_deref().map(Condition::parse).transpose()?;
        Ok(Self { spec: spec.clone(), condition })
    }

    /// Whether its meaning may change while the directory does not.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.spec.online || self.condition.as_ref().is_some_and(Condition::is_volatile)
    }

    /// The endpoints it means now. Labels and endpoints that are gone mean nobody, and so does a scope
    /// that leaves out a label that is gone.
    #[must_use]
    pub fn endpoints(&self, snapshot: &Snapshot, org: OrgId, live: &dyn Live) -> RoaringBitmap {
        self.endpoints_beside(&RoaringBitmap::new(), snapshot, org, live)
    }

    /// The same without those of `known`, at which it does not even look.
    #[must_use]
    pub fn endpoints_beside(
        &self,
        known: &RoaringBitmap,
        snapshot: &Snapshot,
        org: OrgId,
        live: &dyn Live,
    ) -> RoaringBitmap {
        let mut set = self.candidates(snapshot, org) - known;
        for name in &self.spec.exclude_labels {
            match snapshot.label(org, name) {
                Some(label) => set -= &label.members,
                // It was deleted: whom it held is not known any more, and they were to be left out.
                None => set.clear(),
            }
        }
        if !self.spec.online && self.condition.is_none() {
            return set;
        }
        let fits = |no: &u32| {
            let Some(endpoint) = snapshot.endpoints.get(*no) else { return false };
            let view = View { snapshot, endpoint, live };
            (!self.spec.online || view.online())
                && self.condition.as_ref().is_none_or(|condition| condition.holds(&view))
        };
        set.iter().filter(fits).collect()
    }

    /// Everything but exclusions and conditions.
    fn candidates(&self, snapshot: &Snapshot, org: OrgId) -> RoaringBitmap {
        let known = |no: &u32| {
            snapshot.endpoints.get(*no).is_some_and(|e| e.org == org && e.deleted_at.is_none())
        };
        let mut set: RoaringBitmap = if self.spec.endpoints.is_empty() {
            snapshot.everybody(org)
        } else {
            self.spec.endpoints.iter().map(|no| no.0).filter(known).collect()
        };
        if !self.spec.labels.is_empty() {
            let labels = self.spec.labels.iter().filter_map(|name| snapshot.label(org, name));
            set &= labels.fold(RoaringBitmap::new(), |all, label| all | &label.members);
        }
        set
    }
}

impl Snapshot {
    /// The endpoints a scope means now; refuses what a person must have got wrong.
    ///
    /// # Errors
    /// [`ScopeError`] for an unknown label or endpoint, or a condition that cannot be read.
    pub fn resolve(
        &self,
        org: OrgId,
        spec: &ScopeSpec,
        live: &dyn Live,
    ) -> Result<Resolved, ScopeError> {
        let prepared = PreparedScope::new(spec)?;
        for name in spec.labels.iter().chain(&spec.exclude_labels) {
            if self.label(org, name).is_none() {
                return Err(self.unknown_label(org, name));
            }
        }
        for no in &spec.endpoints {
            if self.endpoint(*no).is_none_or(|endpoint| endpoint.org != org) {
                return Err(ScopeError::UnknownEndpoint(*no));
            }
        }
        Ok(Resolved { endpoints: prepared.endpoints(self, org, live) })
    }

    /// What a caller with these granted scopes may see; nothing when there are none. A scope that
    /// cannot be read grants nothing.
    #[must_use]
    pub fn access(&self, org: OrgId, scopes: &[ScopeSpec], live: &dyn Live) -> Access {
        if scopes.iter().any(|scope| *scope == ScopeSpec::all()) {
            return Access::all(org);
        }
        let prepared = scopes.iter().filter_map(|scope| PreparedScope::new(scope).ok());
        let endpoints =
            prepared.fold(RoaringBitmap::new(), |all, one| all | one.endpoints(self, org, live));
        Access { org, agents: Some(self.agents_in(&endpoints)) }
    }

    /// All agents of these endpoints, retired ones too.
    #[must_use]
    pub fn agents_in(&self, endpoints: &RoaringBitmap) -> AgentSet {
        let lists = endpoints.iter().filter_map(|no| self.endpoints.get(no));
        lists.flat_map(|endpoint| endpoint.agents.iter().copied()).collect()
    }

    /// Whether a caller may know of this endpoint: one of its agents is in its scope.
    #[must_use]
    pub fn allows(&self, access: &Access, endpoint: &Endpoint) -> bool {
        access.org == endpoint.org
            && access
                .agents
                .as_ref()
                .is_none_or(|set| endpoint.agents.iter().any(|agent| set.contains(*agent)))
    }

    fn unknown_label(&self, org: OrgId, name: &str) -> ScopeError {
        let near = self
            .labels(org)
            .map(|label| (strsim::damerau_levenshtein(&label.name, name), &label.name))
            .min()
            .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
        let hint = near.map_or_else(String::new, |(_, known)| format!("; did you mean {known:?}?"));
        ScopeError::UnknownLabel { name: name.to_owned(), hint }
    }
}

/// One endpoint as the columns of a condition.
struct View<'a> {
    snapshot: &'a Snapshot,
    endpoint: &'a Endpoint,
    live: &'a dyn Live,
}

impl View<'_> {
    fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.endpoint.agents.iter().filter_map(|no| self.snapshot.agent(*no)).map(|agent| &**agent)
    }
}

impl Fields for View<'_> {
    fn now(&self) -> Timestamp {
        self.live.now()
    }

    fn online(&self) -> bool {
        self.endpoint.agents.iter().any(|agent| self.live.is_online(*agent))
    }

    fn endpoint(&self) -> u32 {
        self.endpoint.no.0
    }

    fn time(&self, column: Column) -> Option<Timestamp> {
        if column == Column::EnrolledAt {
            return Some(self.endpoint.created_at);
        }
        let seen = |agent: &Agent| {
            let known = (agent.last_seen > Timestamp(0)).then_some(agent.last_seen);
            self.live.last_seen(agent.no).max(known)
        };
        self.agents().filter_map(seen).max()
    }

    fn any_text(&self, column: Column, test: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        match column {
            Column::Name => any([&*self.endpoint.name].into_iter(), test),
            Column::Label => any(self.snapshot.labels_of(self.endpoint).map(|l| &*l.name), test),
            Column::AgentKind => any(self.agents().map(|agent| agent.kind.as_str()), test),
            Column::AgentVersion => any(self.agents().map(|agent| &*agent.facts.version), test),
            _ => {
                let agent = self.snapshot.primary_agent(self.endpoint.no)?;
                let value = match column {
                    Column::Hostname => &agent.hostname,
                    Column::Platform => &agent.facts.platform,
                    Column::OsName => &agent.facts.os_name,
                    Column::OsVersion => &agent.facts.os_version,
                    Column::Arch => &agent.facts.arch,
                    _ => return None,
                };
                any([&**value].into_iter(), test)
            }
        }
    }
}

/// Whether one of the values that are not empty passes; `None` when there is none.
fn any<'a>(
    values: impl Iterator<Item = &'a str>,
    test: &mut dyn FnMut(&str) -> bool,
) -> Option<bool> {
    let mut found = None;
    for value in values.filter(|value| !value.is_empty()) {
        if test(value) {
            return Some(true);
        }
        found = Some(false);
    }
    found
}
