//! Asking: hunts, live queries and collections.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use muster_artifact::{BindError, Platform};
use muster_hunts::{self as hunts, Definition, HuntKind, Limits, NewHunt};
use muster_types::{EndpointNo, HuntNo, Role, ScopeSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::refused;
use crate::authorise::{Decision, Target};
use crate::caller::Caller;
use crate::extract::Json;
use crate::problem::{Code, Problem, Result};
use crate::scope::{self, Scope};
use crate::state::{ApiState, told};
use crate::{approvals, artifacts};

const QUERY_MAX: usize = 64 * 1024;
const HUNT_DAYS: u64 = 7;
const LIVE_SECONDS: u64 = 60;
const LIVE_SECONDS_MAX: u64 = 3_600;
const ENDPOINTS_MAX: usize = 10_000;

/// What to collect: an artifact with parameters, or one SQL text for the agents that speak SQL.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHuntBody {
    /// An artifact's name.
    #[schema(example = "linux.processes")]
    artifact: Option<String>,
    /// Values of its parameters.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: BTreeMap<String, serde_json::Value>,
    /// Instead of an artifact: SQL over the agent's tables.
    query: Option<String>,
    /// Which endpoints; none given: all the caller may ask.
    #[serde(default)]
    scope: Scope,
    /// How fast, and when it stops itself; what is left out takes the default.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"rate_per_second": 100, "canary": 50}))]
    limits: Option<serde_json::Value>,
    /// A few words for lists.
    #[serde(default)]
    title: String,
    /// Why.
    #[serde(default)]
    reason: String,
    /// The incident it belongs to.
    incident: Option<String>,
    /// It ends by itself after so many seconds; seven days when left out.
    expires_in_seconds: Option<u64>,
    /// Only say how many endpoints match; nothing is created.
    #[serde(default)]
    dry_run: bool,
}

/// What was asked, and of how many.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// The number of the hunt; missing for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no: Option<u64>,
    /// `running` or `awaiting_approval`; missing for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The request a second person has to approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<i64>,
    /// Endpoints in scope now.
    pub r#match: u64,
    /// Of those, online.
    pub online: u64,
    /// Of those, offline.
    pub offline: u64,
}

/// Starts a hunt, or says what it would reach.
#[utoipa::path(post, path = "/hunts", operation_id = "hunts.create", tag = "hunts",
    request_body = NewHuntBody,
    responses((status = CREATED, body = Asked), (status = OK, description = "Dry run.", body = Asked)))]
pub(crate) async fn hunt(
    State(state): State<ApiState>,
    caller: Caller,
    Json(body): Json<NewHuntBody>,
) -> Result<(StatusCode, axum::Json<Asked>)> {
    let what = What { artifact: body.artifact, parameters: body.parameters, query: body.query };
    let life = Duration::from_secs(body.expires_in_seconds.unwrap_or(HUNT_DAYS * 24 * 3600));
    let plan = Plan {
        kind: HuntKind::Hunt,
        what,
        scope: body.scope.into(),
        limits: body.limits,
        title: body.title,
        reason: body.reason,
        incident: body.incident,
        life,
    };
    ask(&state, &caller, plan, body.dry_run).await
}

/// A question somebody waits for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuery {
    /// SQL over the agent's tables.
    #[schema(example = "SELECT pid, name FROM processes")]
    query: Option<String>,
    /// Instead of a query: an artifact's name.
    artifact: Option<String>,
    /// Values of its parameters.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: BTreeMap<String, serde_json::Value>,
    /// Which endpoints, of those online.
    #[serde(default)]
    scope: Scope,
    /// Bounds of one task.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: Option<serde_json::Value>,
    /// A few words for the history.
    #[serde(default)]
    title: String,
    /// Why.
    #[serde(default)]
    reason: String,
    /// It ends after so many seconds; 60 when left out, 3600 at most.
    timeout_seconds: Option<u64>,
    /// Only say how many endpoints match; nothing is asked.
    #[serde(default)]
    dry_run: bool,
}

/// Asks the endpoints that are online now. Watch the answer with `GET /v1/hunts/{no}/live`.
#[utoipa::path(post, path = "/queries", operation_id = "queries.create", tag = "hunts",
    request_body = NewQuery,
    responses((status = CREATED, body = Asked), (status = OK, description = "Dry run.", body = Asked)))]
pub(crate) async fn query(
    State(state): State<ApiState>,
    caller: Caller,
    Json(body): Json<NewQuery>,
) -> Result<(StatusCode, axum::Json<Asked>)> {
    let seconds = body.timeout_seconds.unwrap_or(LIVE_SECONDS);
    if !(1..=LIVE_SECONDS_MAX).contains(&seconds) {
        let detail = format!("take 1 to {LIVE_SECONDS_MAX} seconds; a hunt may live longer");
        return Err(Problem::invalid("/timeout_seconds", detail));
    }
    let plan = Plan {
        kind: HuntKind::Live,
        what: What { artifact: body.artifact, parameters: body.parameters, query: body.query },
        scope: ScopeSpec { online: true, ..body.scope.into() },
        limits: body.limits,
        title: body.title,
        reason: body.reason,
        incident: None,
        life: Duration::from_secs(seconds),
    };
    ask(&state, &caller, plan, body.dry_run).await
}

/// One artifact on chosen endpoints.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCollection {
    /// An artifact's name.
    #[schema(example = "linux.processes")]
    artifact: String,
    /// Values of its parameters.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: BTreeMap<String, serde_json::Value>,
    /// The endpoints; those that are offline are asked when they return.
    endpoints: Vec<u32>,
    /// A few words for the history.
    #[serde(default)]
    title: String,
    /// Why.
    #[serde(default)]
    reason: String,
    /// The incident it belongs to.
    incident: Option<String>,
    /// It ends by itself after so many seconds; seven days when left out.
    expires_in_seconds: Option<u64>,
}

/// Collects an artifact from chosen endpoints.
#[utoipa::path(post, path = "/collections", operation_id = "collections.create", tag = "hunts",
    request_body = NewCollection, responses((status = CREATED, body = Asked)))]
pub(crate) async fn collection(
    State(state): State<ApiState>,
    caller: Caller,
    Json(body): Json<NewCollection>,
) -> Result<(StatusCode, axum::Json<Asked>)> {
    if body.endpoints.is_empty() || body.endpoints.len() > ENDPOINTS_MAX {
        let detail = format!("name 1 to {ENDPOINTS_MAX} endpoints; for more use a hunt");
        return Err(Problem::invalid("/endpoints", detail));
    }
    let what = What { artifact: Some(body.artifact), parameters: body.parameters, query: None };
    let life = Duration::from_secs(body.expires_in_seconds.unwrap_or(HUNT_DAYS * 24 * 3600));
    let plan = Plan {
        kind: HuntKind::Collection,
        what,
        scope: ScopeSpec::of(body.endpoints.into_iter().map(EndpointNo).collect()),
        limits: None,
        title: body.title,
        reason: body.reason,
        incident: body.incident,
        life,
    };
    ask(&state, &caller, plan, false).await
}

struct What {
    artifact: Option<String>,
    parameters: BTreeMap<String, serde_json::Value>,
    query: Option<String>,
}

/// What was asked, found and checked.
struct Defined {
    artifact: String,
    platforms: Vec<Platform>,
    definition: Definition,
    limits: Limits,
}

struct Plan {
    kind: HuntKind,
    what: What,
    scope: ScopeSpec,
    limits: Option<serde_json::Value>,
    title: String,
    reason: String,
    incident: Option<String>,
    life: Duration,
}

async fn ask(
    state: &ApiState,
    caller: &Caller,
    mut plan: Plan,
    dry_run: bool,
) -> Result<(StatusCode, axum::Json<Asked>)> {
    let Defined { artifact, platforms, definition, mut limits } =
        define(state, caller, plan.what, plan.limits).await?;
    let reach = caller.access_as(Role::Analyst);
    let mut endpoints = scope::resolve(state, &plan.scope, &reach)?;
    // Endpoints that somebody named are asked, and say themselves what they lack.
    if !platforms.is_empty() && plan.kind != HuntKind::Collection {
        plan.scope = narrowed(plan.scope, &platforms);
        endpoints = scope::resolve(state, &plan.scope, &reach)?;
    }
    let online = scope::online_count(state, &endpoints);
    let mut asked = Asked {
        no: None,
        state: None,
        approval: None,
        r#match: endpoints.len(),
        online,
        offline: endpoints.len() - online,
    };
    let target = Target::Agents { reach: &reach, endpoint_count: endpoints.len() };
    let needs_approval = match caller.decide(target) {
        Decision::Allowed => false,
        Decision::NeedsApproval => true,
        Decision::Denied => {
            let detail = "no endpoint is within what you may ask; an administrator grants scopes";
            return Err(Problem::new(Code::Forbidden, detail));
        }
    };
    if dry_run {
        let details = json!({"dry_run": true, "scope": plan.scope, "match": asked.r#match});
        let mut tx = state.begin().await?;
        caller.record(&mut tx, String::new(), details).await?;
        tx.commit().await?;
        return Ok((StatusCode::OK, axum::Json(asked)));
    }
    // The scope is resolved anew while the hunt lives: what was allowed without a second person must not
    // grow beyond what would have needed one.
    if let (false, Some(most)) = (needs_approval, state.options.approvals.hunt_above_endpoints) {
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        let asked = limits.endpoints_max;
        limits.endpoints_max = if asked == 0 { most } else { asked.min(most) };
    }
    let title = if plan.title.is_empty() { title_of(&artifact, &definition) } else { plan.title };
    let new = NewHunt {
        org: caller.principal.org,
        kind: plan.kind,
        title,
        artifact,
        definition,
        scope: plan.scope,
        caller_scope: caller.principal.scopes(Role::Analyst),
        limits,
        requested_by: caller.principal.name.clone(),
        reason: plan.reason,
        incident: plan.incident,
        expires_in: plan.life,
        needs_approval,
    };
    let (no, approval) = create(state, caller, &new, &asked).await?;
    let word = if needs_approval { "awaiting_approval" } else { "running" };
    (asked.no, asked.state, asked.approval) = (Some(no.0), Some(word.to_owned()), approval);
    Ok((StatusCode::CREATED, axum::Json(asked)))
}

/// The part of a scope that an artifact is written for. The condition that is there was read before,
/// so its brackets are balanced.
fn narrowed(scope: ScopeSpec, platforms: &[Platform]) -> ScopeSpec {
    let words: Vec<String> =
        platforms.iter().map(|platform| format!("'{}'", platform.as_str())).collect();
    let only = format!("platform IN ({})", words.join(", "));
    let condition = match scope.condition {
        Some(given) => format!("({given}) AND {only}"),
        None => only,
    };
    ScopeSpec { condition: Some(condition), ..scope }
}

/// Lists need something to show: the artifact's name, or how the question begins.
fn title_of(artifact: &str, definition: &Definition) -> String {
    const CHARS: usize = 80;
    if !artifact.is_empty() {
        return artifact.to_owned();
    }
    let query = definition.sources.values().next().map_or("", |source| source.query.as_str());
    let words = query.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(CHARS) {
        Some((cut, _)) => format!("{}…", &words[..cut]),
        None => words,
    }
}

async fn create(
    state: &ApiState,
    caller: &Caller,
    new: &NewHunt,
    asked: &Asked,
) -> Result<(HuntNo, Option<i64>)> {
    let first = state.hunts.first_wave(new);
    let mut tx = state.begin().await?;
    let created = hunts::create(&mut tx, new, &first).await.map_err(refused)?;
    let no = created.no;
    let approval = match new.needs_approval {
        true => Some(approvals::request(&mut tx, caller, no, &new.reason).await?),
        false => None,
    };
    let query = new.definition.sources.values().next().map(|source| source.query.as_str());
    let details = json!({
        "kind": new.kind.as_str(),
        "artifact": new.artifact,
        "query": query.filter(|_| new.artifact.is_empty()),
        "scope": new.scope,
        "match": asked.r#match,
        "reason": new.reason,
        "incident": new.incident,
        "awaiting_approval": new.needs_approval,
    });
    caller.record(&mut tx, format!("hunt/{no}"), details).await?;
    // Who asks wants to see the first rows: listen before anybody can answer.
    if new.kind == HuntKind::Live && !new.needs_approval {
        state.watches.open(&*state.bus, no, caller.now());
    }
    tx.commit().await?;
    told(state.hunts.tell(&created.news).await);
    Ok((no, approval))
}

async fn define(
    state: &ApiState,
    caller: &Caller,
    what: What,
    limits: Option<serde_json::Value>,
) -> Result<Defined> {
    let (artifact, platforms, definition, mut limits_json) = match (what.artifact, what.query) {
        (Some(name), None) => {
            let model = artifacts::find(state, caller.principal.org, &name).await?;
            let model = model.ok_or_else(|| {
                let detail = format!("there is no artifact {name:?}; see GET /v1/artifacts");
                Problem::invalid("/artifact", detail)
            })?;
            let bound = model.bind(&what.parameters).map_err(|error| unbound(&error))?;
            let limits = json!({
                "task_timeout_ms": model.limits.timeout_ms,
                "task_rows_max": model.limits.rows,
            });
            let definition = Definition::of_artifact(&model, bound);
            (name, model.platforms, definition, limits)
        }
        (None, Some(sql)) => {
            if sql.trim().is_empty() || sql.len() > QUERY_MAX {
                let detail = format!("write one SELECT of at most {QUERY_MAX} bytes");
                return Err(Problem::invalid("/query", detail));
            }
            if !what.parameters.is_empty() {
                let detail = "only artifacts have parameters; write the values into the query";
                return Err(Problem::invalid("/parameters", detail));
            }
            (String::new(), Vec::new(), Definition::ad_hoc(&sql), json!({}))
        }
        _ => {
            let detail = "give either `artifact` or `query`";
            return Err(Problem::new(Code::Invalid, detail));
        }
    };
    if let (Some(base), Some(given)) = (limits_json.as_object_mut(), limits) {
        let given: serde_json::Map<_, _> = serde_json::from_value(given)
            .map_err(|_| Problem::invalid("/limits", "limits is an object"))?;
        base.extend(given);
    }
    let limits = serde_json::from_value(limits_json)
        .map_err(|error| Problem::invalid("/limits", error.to_string()))?;
    Ok(Defined { artifact, platforms, definition, limits })
}

fn unbound(error: &BindError) -> Problem {
    Problem::invalid("/parameters", error.to_string())
}
