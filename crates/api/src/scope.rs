//! Scopes as the API takes them, resolved within what the caller may see.

use std::collections::HashSet;

use muster_endpoints::{Endpoint, Label, ScopeError, Snapshot};
use muster_types::{Access, EndpointNo, ScopeSpec};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::{Problem, Result};
use crate::state::ApiState;

/// A set of endpoints by rule. All parts that are given must hold; an empty one is every endpoint
/// the caller may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Only these endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<u32>,
    /// At least one of these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// None of these labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_labels: Vec<String>,
    /// A SQL condition over the columns of `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "platform = 'linux' AND os_version LIKE '12%'")]
    pub condition: Option<String>,
    /// Only endpoints that are online.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub online: bool,
}

impl From<Scope> for ScopeSpec {
    fn from(scope: Scope) -> Self {
        Self {
            endpoints: scope.endpoints.into_iter().map(EndpointNo).collect(),
            labels: scope.labels,
            exclude_labels: scope.exclude_labels,
            condition: scope.condition,
            online: scope.online,
        }
    }
}

impl From<&ScopeSpec> for Scope {
    fn from(spec: &ScopeSpec) -> Self {
        Self {
            endpoints: spec.endpoints.iter().map(|no| no.0).collect(),
            labels: spec.labels.clone(),
            exclude_labels: spec.exclude_labels.clone(),
            condition: spec.condition.clone(),
            online: spec.online,
        }
    }
}

/// The endpoints of a scope that the caller may see. Names outside are unknown to a scoped caller,
/// also in the words of a refusal.
pub(crate) fn resolve(
    state: &ApiState,
    spec: &ScopeSpec,
    access: &Access,
) -> Result<RoaringBitmap> {
    let snapshot = state.directory.snapshot();
    check_names(&snapshot, spec, access)?;
    let resolved =
        snapshot.resolve(access.org, spec, &state.presence).map_err(|error| refused(&error))?;
    Ok(within(&snapshot, resolved.endpoints, access))
}

/// Only those endpoints of a set that the caller may see.
pub(crate) fn within(snapshot: &Snapshot, set: RoaringBitmap, access: &Access) -> RoaringBitmap {
    if access.agents.is_none() {
        return set;
    }
    let seen =
        |no: &u32| snapshot.endpoint(EndpointNo(*no)).is_some_and(|e| snapshot.allows(access, e));
    set.iter().filter(seen).collect()
}

/// The labels whose names a caller may know: those that an endpoint carries which they may see. `None`: all.
pub(crate) struct SeenLabels(Option<HashSet<String>>);

impl SeenLabels {
    /// Those of one caller, now.
    pub(crate) fn of(state: &ApiState, access: &Access) -> Self {
        let snapshot = state.directory.snapshot();
        let names = || {
            let seen = snapshot.labels(access.org).filter(|l| is_seen(&snapshot, l, access));
            seen.map(|label| label.name.to_string()).collect()
        };
        Self(access.agents.is_some().then(names))
    }

    /// Leaves the others out.
    pub(crate) fn only(&self, names: &mut Vec<String>) {
        if let Self(Some(seen)) = self {
            names.retain(|name| seen.contains(name));
        }
    }
}

fn is_seen(snapshot: &Snapshot, label: &Label, access: &Access) -> bool {
    let allows = |no| snapshot.endpoint(EndpointNo(no)).is_some_and(|e| snapshot.allows(access, e));
    label.members.iter().any(allows)
}

fn check_names(snapshot: &Snapshot, spec: &ScopeSpec, access: &Access) -> Result<()> {
    if access.agents.is_none() {
        return Ok(());
    }
    for name in spec.labels.iter().chain(&spec.exclude_labels) {
        let label = snapshot.label(access.org, name);
        if !label.is_some_and(|label| is_seen(snapshot, label, access)) {
            return Err(Problem::invalid("/scope/labels", format!("no label {name:?}")));
        }
    }
    for no in &spec.endpoints {
        let endpoint = snapshot.endpoint(*no);
        if !endpoint.is_some_and(|endpoint| snapshot.allows(access, endpoint)) {
            return Err(refused(&ScopeError::UnknownEndpoint(*no)));
        }
    }
    Ok(())
}

fn refused(error: &ScopeError) -> Problem {
    let at = match error {
        ScopeError::UnknownLabel { .. } => "/scope/labels",
        ScopeError::UnknownEndpoint(_) => "/scope/endpoints",
        ScopeError::Condition(_) => "/scope/condition",
    };
    Problem::invalid(at, error.to_string())
}

/// An endpoint the caller may see.
pub(crate) fn visible<'a>(
    snapshot: &'a Snapshot,
    access: &Access,
    no: u32,
) -> Result<&'a Endpoint> {
    snapshot
        .endpoint(EndpointNo(no))
        .map(|endpoint| &**endpoint)
        .filter(|endpoint| snapshot.allows(access, endpoint))
        .ok_or_else(|| Problem::not_found(format_args!("endpoint {no}")))
}

/// How many of these endpoints are online.
pub(crate) fn online_count(state: &ApiState, endpoints: &RoaringBitmap) -> u64 {
    let snapshot = state.directory.snapshot();
    let online = |no: &u32| {
        let agents = snapshot.agents_of(EndpointNo(*no));
        agents.iter().any(|agent| state.presence.is_online(*agent))
    };
    endpoints.iter().filter(online).count() as u64
}
