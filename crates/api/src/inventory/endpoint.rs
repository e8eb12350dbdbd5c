//! What is known of one endpoint, and the wish to know it anew.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use muster_endpoints::AgentState;
use muster_inventory::{policy, refetch, sql};
use muster_types::{AgentKind, AgentNo, EndpointNo};
use serde_json::json;

use super::answers::ask;
use crate::authorise::Target;
use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::problem::{Code, Problem, Result};
use crate::scope;
use crate::sql::Format;
use crate::sql::resource::FormatQuery;
use crate::state::{ApiState, told};

fn check(state: &ApiState, caller: &Caller, no: u32) -> Result<()> {
    let snapshot = state.directory.snapshot();
    scope::visible(&snapshot, &caller.access(), no).map(drop)
}

/// Everything that is known of an endpoint besides its users and software: one row, with a list of objects
/// for each detail.
#[utoipa::path(get, path = "/endpoints/{no}/vitals", operation_id = "endpoints.vitals",
    tag = "endpoints", params(("no" = u32, Path)),
    responses((status = OK, description = "One row.", content((Object = "application/json")))))]
pub(crate) async fn vitals(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<Response> {
    check(&state, &caller, no)?;
    ask(&state, &caller, sql::vitals(no), Format::Json, format!("endpoint/{no}")).await
}

/// The local accounts of an endpoint, with first and last seen.
#[utoipa::path(get, path = "/endpoints/{no}/users", operation_id = "endpoints.users",
    tag = "endpoints", params(("no" = u32, Path), FormatQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn users(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    headers: HeaderMap,
    Query(form): Query<FormatQuery>,
) -> Result<Response> {
    check(&state, &caller, no)?;
    ask(&state, &caller, sql::users(no), form.choose(&headers), format!("endpoint/{no}")).await
}

/// The installed software of an endpoint, with first and last seen.
#[utoipa::path(get, path = "/endpoints/{no}/software", operation_id = "endpoints.software",
    tag = "endpoints", params(("no" = u32, Path), FormatQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn software(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    headers: HeaderMap,
    Query(form): Query<FormatQuery>,
) -> Result<Response> {
    check(&state, &caller, no)?;
    ask(&state, &caller, sql::software(no), form.choose(&headers), format!("endpoint/{no}")).await
}

/// What an endpoint says of every policy that applies to it; `pending` where it has not answered yet.
#[utoipa::path(get, path = "/endpoints/{no}/policies", operation_id = "endpoints.policies",
    tag = "endpoints", params(("no" = u32, Path), FormatQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn policies(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    headers: HeaderMap,
    Query(form): Query<FormatQuery>,
) -> Result<Response> {
    check(&state, &caller, no)?;
    let mut known = state.inventory.policies(caller.principal.org);
    known.retain(|policy| policy.text.enabled);
    let sql = policy::sql::of_endpoint(&known, no);
    ask(&state, &caller, sql, form.choose(&headers), format!("endpoint/{no}")).await
}

/// Has an endpoint asked for everything with its next poll, instead of in its turn of the hour.
#[utoipa::path(post, path = "/endpoints/{no}/refetch", operation_id = "endpoints.refetch",
    tag = "endpoints", params(("no" = u32, Path)), responses((status = ACCEPTED)))]
pub(crate) async fn refetch(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<StatusCode> {
    let snapshot = state.directory.snapshot();
    let seen = scope::visible(&snapshot, &caller.access_as(muster_types::Role::Viewer), no)?;
    let reach = caller.access();
    if !snapshot.allows(&reach, seen) {
        return Err(Problem::not_found(format_args!("endpoint {no}")).denied());
    }
    caller.insist(Target::Agents { reach: &reach, endpoint_count: 1 }, "you may not ask it")?;
    let polls = |agent: &AgentNo| {
        snapshot.agent(*agent).is_some_and(|agent| {
            agent.kind == AgentKind::Osquery && agent.state == AgentState::Active
        })
    };
    let agents: Vec<AgentNo> =
        snapshot.agents_of(EndpointNo(no)).iter().copied().filter(polls).collect();
    if agents.is_empty() {
        let detail =
            format!("endpoint {no} has no osquery agent, and only those are asked in turns");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let (org, by) = (caller.principal.org, &caller.principal.name);
    let mut tx = state.begin().await?;
    refetch::want(&mut tx, org, &agents, by, caller.now()).await?;
    caller.record(&mut tx, format!("endpoint/{no}"), json!({"agents": agents.len()})).await?;
    tx.commit().await?;
    told(state.inventory.announce().await);
    Ok(StatusCode::ACCEPTED)
}
