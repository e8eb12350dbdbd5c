//! `/endpoints` and `/agents`.

use axum::extract::State;
use http::StatusCode;
use muster_endpoints::{self as endpoints, Snapshot};
use muster_types::{Access, AgentNo, EndpointNo, ScopeSpec, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::authorise::Target;
use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};
use crate::scope;
use crate::state::{ApiState, told};
use crate::time::Time;

/// One machine.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// Its number, never reused.
    pub no: u32,
    /// Its name.
    pub name: String,
    /// Whether one of its agents is connected.
    pub online: bool,
    /// When one of its agents was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// `linux`, `windows`, `darwin` …
    pub platform: String,
    /// Operating system.
    pub os_name: String,
    /// Its version.
    pub os_version: String,
    /// Processor architecture.
    pub arch: String,
    /// Labels it carries.
    pub labels: Vec<String>,
    /// When it enrolled.
    pub enrolled_at: Time,
    /// Its agents.
    pub agents: Vec<Agent>,
}

/// One enrolment of one agent program.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its number, never reused.
    pub no: u32,
    /// The endpoint it runs on.
    pub endpoint: u32,
    /// `native`, `osquery`, `velociraptor` or `fleetspeak`.
    pub kind: String,
    /// `active`, `blocked` or `retired`.
    pub state: String,
    /// Whether it is connected.
    pub online: bool,
    /// What the machine calls itself.
    pub hostname: String,
    /// Version of the agent program.
    pub version: String,
    /// When it enrolled.
    pub enrolled_at: Time,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
    /// From which address.
    pub last_address: String,
    /// The agent whose identity it had been copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_of: Option<u32>,
}

fn agent(state: &ApiState, agent: &endpoints::Agent) -> Agent {
    let known = (agent.last_seen > Timestamp(0)).then_some(agent.last_seen);
    Agent {
        no: agent.no.0,
        endpoint: agent.endpoint.0,
        kind: agent.kind.to_string(),
        state: agent.state.to_string(),
        online: state.presence.is_online(agent.no),
        hostname: agent.hostname.to_string(),
        version: agent.facts.version.to_string(),
        enrolled_at: agent.enrolled_at.into(),
        last_seen: state.presence.last_seen(agent.no).max(known).map(Time::from),
        last_address: agent.last_address.to_string(),
        clone_of: agent.clone_of.map(|no| no.0),
    }
}

fn view(state: &ApiState, snapshot: &Snapshot, endpoint: &endpoints::Endpoint) -> Endpoint {
    let agents: Vec<_> = endpoint
        .agents
        .iter()
        .filter_map(|no| snapshot.agent(*no))
        .map(|known| agent(state, known))
        .collect();
    let facts = snapshot.primary_agent(endpoint.no).map(|agent| &agent.facts);
    let fact = |pick: fn(&endpoints::AgentFacts) -> &str| {
        facts.map(|facts| pick(facts).to_owned()).unwrap_or_default()
    };
    Endpoint {
        no: endpoint.no.0,
        name: endpoint.name.to_string(),
        online: agents.iter().any(|agent| agent.online),
        last_seen: agents.iter().filter_map(|agent| agent.last_seen).max(),
        platform: fact(|f| &f.platform),
        os_name: fact(|f| &f.os_name),
        os_version: fact(|f| &f.os_version),
        arch: fact(|f| &f.arch),
        labels: snapshot.labels_of(endpoint).map(|label| label.name.to_string()).collect(),
        enrolled_at: endpoint.created_at.into(),
        agents,
    }
}

/// Which endpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EndpointQuery {
    /// Only these, by number; several are divided by commas.
    endpoint: Option<String>,
    /// Only those with exactly this name.
    name: Option<String>,
    /// Carrying this label, or one of several that are divided by commas.
    label: Option<String>,
    /// Carrying none of these labels, divided by commas.
    exclude_label: Option<String>,
    /// A SQL condition over the columns of `endpoints`.
    #[param(example = "platform = 'linux'")]
    condition: Option<String>,
    /// Online ones or offline ones only.
    online: Option<bool>,
    /// A part of the name, hostname or address; case does not matter.
    search: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Endpoints, by number.
#[utoipa::path(get, path = "/endpoints", operation_id = "endpoints.list", tag = "endpoints",
    params(EndpointQuery), responses((status = OK, body = Page<Endpoint>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<EndpointQuery>,
) -> Result<axum::Json<Page<Endpoint>>> {
    let limit = page::limit(query.limit)?;
    let after = page::after_number(query.after.as_deref(), 0)?;
    let words = |list: Option<String>| -> Vec<String> {
        let list = list.unwrap_or_default();
        list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let numbers = words(query.endpoint).into_iter().map(|word| {
        let wrong = |_| Problem::invalid("endpoint", format!("{word:?} is no number"));
        word.parse().map(EndpointNo).map_err(wrong)
    });
    let spec = ScopeSpec {
        endpoints: numbers.collect::<Result<_>>()?,
        labels: words(query.label),
        exclude_labels: words(query.exclude_label),
        condition: query.condition,
        ..ScopeSpec::all()
    };
    let set = scope::resolve(&state, &spec, &caller.access())?;
    let snapshot = state.directory.snapshot();
    let needle = query.search.unwrap_or_default().to_lowercase();
    let online = |e: &endpoints::Endpoint| e.agents.iter().any(|a| state.presence.is_online(*a));
    let from = u32::try_from(after.saturating_add(1)).unwrap_or(u32::MAX);
    let found = set
        .range(from..)
        .filter_map(|no| snapshot.endpoint(EndpointNo(no)))
        .filter(|e| query.online.is_none_or(|wanted| wanted == online(e)))
        .filter(|e| query.name.as_ref().is_none_or(|name| *e.name == **name))
        .filter(|e| needle.is_empty() || matches(&snapshot, e, &needle))
        .take(limit as usize + 1)
        .map(|e| view(&state, &snapshot, e))
        .collect();
    let page = Page::cut(found, limit, |endpoint: &Endpoint| endpoint.no.to_string());
    caller.note("items", page.items.len());
    Ok(axum::Json(page))
}

fn matches(snapshot: &Snapshot, endpoint: &endpoints::Endpoint, needle: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(needle);
    has(&endpoint.name)
        || endpoint
            .agents
            .iter()
            .filter_map(|no| snapshot.agent(*no))
            .any(|agent| has(&agent.hostname) || has(&agent.last_address))
}

/// One endpoint.
#[utoipa::path(get, path = "/endpoints/{no}", operation_id = "endpoints.get", tag = "endpoints",
    params(("no" = u32, Path)), responses((status = OK, body = Endpoint)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<axum::Json<Endpoint>> {
    let snapshot = state.directory.snapshot();
    let endpoint = scope::visible(&snapshot, &caller.access(), no)?;
    Ok(axum::Json(view(&state, &snapshot, endpoint)))
}

/// Removes an endpoint: it disappears at once, its agents may not come back under their old keys.
#[utoipa::path(delete, path = "/endpoints/{no}", operation_id = "endpoints.delete",
    tag = "endpoints", params(("no" = u32, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<StatusCode> {
    let snapshot = state.directory.snapshot();
    let missing = || Problem::not_found(format_args!("endpoint {no}"));
    // Whether it exists is only told to those who see it.
    let seen = scope::visible(&snapshot, &caller.access_as(muster_types::Role::Viewer), no)?;
    let reach = caller.access();
    if !snapshot.allows(&reach, seen) {
        return Err(missing().denied());
    }
    let target = Target::Agents { reach: &reach, endpoint_count: 1 };
    caller.insist(target, "you may not remove this endpoint")?;
    let mut tx = state.begin().await?;
    let org = caller.principal.org;
    if !endpoints::delete_endpoint_in(&mut tx, org, EndpointNo(no), caller.now()).await? {
        return Err(missing());
    }
    caller.record(&mut tx, format!("endpoint/{no}"), json!({"name": &*seen.name})).await?;
    tx.commit().await?;
    told(state.directory.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

/// Which agents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AgentQuery {
    /// Only clones: agents that came with a copied identity.
    #[serde(default)]
    clones: bool,
    /// Only those of this kind.
    kind: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Agents, by number.
#[utoipa::path(get, path = "/agents", operation_id = "agents.list", tag = "endpoints",
    params(AgentQuery), responses((status = OK, body = Page<Agent>)))]
pub(crate) async fn agents(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<AgentQuery>,
) -> Result<axum::Json<Page<Agent>>> {
    let limit = page::limit(query.limit)?;
    let after = page::after_number(query.after.as_deref(), 0)?;
    let access = caller.access();
    let snapshot = state.directory.snapshot();
    let found = snapshot
        .agents(access.org)
        .filter(|known| i64::from(known.no.0) > after && sees(&access, known.no))
        .filter(|known| !query.clones || known.clone_of.is_some())
        .filter(|known| query.kind.as_deref().is_none_or(|kind| kind == known.kind.as_str()))
        .take(limit as usize + 1)
        .map(|known| agent(&state, known))
        .collect();
    let page = Page::cut(found, limit, |agent: &Agent| agent.no.to_string());
    caller.note("items", page.items.len());
    Ok(axum::Json(page))
}

fn sees(access: &Access, agent: AgentNo) -> bool {
    access.allows(access.org, agent)
}
