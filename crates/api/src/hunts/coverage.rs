//! One hunt: itself, its coverage, and each endpoint's outcome.

use std::time::Duration;

use axum::extract::State;
use muster_endpoints::Snapshot;
use muster_hunts::EndpointOutcome;
use muster_types::{HuntNo, Outcome};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::find;
use super::view::{self, Coverage, HuntDetail};
use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};
use crate::state::ApiState;

pub(crate) async fn of(state: &ApiState, caller: &Caller, no: u64) -> Result<Coverage> {
    let counts = state.hunts.coverage(HuntNo(no), &caller.access()).await?;
    let counts = counts.ok_or_else(|| Problem::not_found(format_args!("hunt {no}")))?;
    Ok(Coverage::from(&counts))
}

/// One hunt with what became of it.
#[utoipa::path(get, path = "/hunts/{no}", operation_id = "hunts.get", tag = "hunts",
    params(("no" = u64, Path)), responses((status = OK, body = HuntDetail)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<axum::Json<HuntDetail>> {
    let hunt = find(&state, &caller, no).await?;
    let coverage = of(&state, &caller, no).await?;
    let hunt = view::hunt(&hunt, &caller, &caller.access());
    Ok(axum::Json(HuntDetail { hunt, coverage }))
}

/// What became of the endpoints in scope.
#[utoipa::path(get, path = "/hunts/{no}/coverage", operation_id = "hunts.coverage", tag = "hunts",
    params(("no" = u64, Path)), responses((status = OK, body = Coverage)))]
pub(crate) async fn coverage(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<axum::Json<Coverage>> {
    Ok(axum::Json(of(&state, &caller, no).await?))
}

/// Which outcomes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OutcomeQuery {
    /// Only this one, for example `failed`.
    outcome: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// What became of one endpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OutcomeOf {
    /// The endpoint.
    pub endpoint: u32,
    /// Its name.
    pub name: String,
    /// The agent that was asked; missing before its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<u32>,
    /// One of the ten outcomes.
    pub outcome: String,
    /// What it waits for, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What an endpoint without an outcome waits for: agents that poll are asked no sooner than they come.
fn note(state: &ApiState, snapshot: &Snapshot, it: &EndpointOutcome) -> Option<String> {
    let left = next_poll(state, snapshot, it)?;
    Some(format!("waiting for poll, {} s at most", left.as_secs()))
}

/// How long it is at most until the agent of an endpoint that waits asks for work; `None` when it does not poll.
pub(crate) fn next_poll(
    state: &ApiState,
    snapshot: &Snapshot,
    it: &EndpointOutcome,
) -> Option<Duration> {
    let primary = || snapshot.primary_agent(it.endpoint).map(|agent| agent.no);
    let agent = it.agent.or_else(primary).filter(|_| it.outcome == Outcome::Waiting)?;
    state.presence.next_poll(agent).filter(|_| state.presence.is_online(agent))
}

/// What became of each endpoint, by number.
#[utoipa::path(get, path = "/hunts/{no}/outcomes", operation_id = "hunts.outcomes", tag = "hunts",
    params(("no" = u64, Path), OutcomeQuery), responses((status = OK, body = Page<OutcomeOf>)))]
pub(crate) async fn outcomes(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    Query(query): Query<OutcomeQuery>,
) -> Result<axum::Json<Page<OutcomeOf>>> {
    let limit = page::limit(query.limit)?;
    let after = page::after_number(query.after.as_deref(), 0)?;
    let wanted: Option<Outcome> = query.outcome.map(|word| word.parse()).transpose().map_err(
        |error: muster_types::UnknownOutcome| Problem::invalid("outcome", error.to_string()),
    )?;
    let all = state.hunts.outcomes(HuntNo(no), &caller.access()).await?;
    let all = all.ok_or_else(|| Problem::not_found(format_args!("hunt {no}")))?;
    let snapshot = state.directory.snapshot();
    let view = |it: EndpointOutcome| OutcomeOf {
        endpoint: it.endpoint.0,
        name: snapshot
            .endpoint_or_tombstone(it.endpoint)
            .map(|endpoint| endpoint.name.to_string())
            .unwrap_or_default(),
        agent: it.agent.map(|agent| agent.0),
        outcome: it.outcome.to_string(),
        note: note(&state, &snapshot, &it),
    };
    let found = all
        .into_iter()
        .filter(|it| i64::from(it.endpoint.0) > after)
        .filter(|it| wanted.is_none_or(|wanted| wanted == it.outcome))
        .take(limit as usize + 1)
        .map(view)
        .collect();
    let page = Page::cut(found, limit, |it: &OutcomeOf| it.endpoint.to_string());
    caller.note("items", page.items.len());
    Ok(axum::Json(page))
}
