//! What became of policies: counts, lists of endpoints, flips.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use muster_inventory::policy::{Policy, PolicyState, sql};
use serde::Deserialize;
use utoipa::IntoParams;

use super::policies;
use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::problem::{Problem, Result};
use crate::sql::resource::FormatQuery;
use crate::sql::{Format, Question, Rows, answer};
use crate::state::ApiState;

/// Asks our own SQL for a caller and streams the rows.
pub(super) async fn ask(
    state: &ApiState,
    caller: &Caller,
    sql: String,
    format: Format,
    subject: String,
) -> Result<Response> {
    let access = caller.access();
    let question = Question { sql, access, format, time: None, rows: Rows::Allowed, subject };
    answer(state, caller, question).await
}

fn enabled(state: &ApiState, caller: &Caller) -> Vec<Arc<Policy>> {
    let mut known = state.inventory.policies(caller.principal.org);
    known.retain(|policy| policy.text.enabled);
    known
}

/// How many endpoints pass, fail, cannot tell, and have not answered yet: a row per policy that is
/// asked, of the endpoints the caller may see and the policy applies to.
#[utoipa::path(get, path = "/policies/counts", operation_id = "policies.counts", tag = "policies",
    params(FormatQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn counts(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Query(form): Query<FormatQuery>,
) -> Result<Response> {
    let sql = sql::counts(&enabled(&state, &caller));
    ask(&state, &caller, sql, form.choose(&headers), "policies".into()).await
}

/// Which endpoints of a policy.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StateQuery {
    /// `pass`, `fail` or `unknown`; else all that answered.
    state: Option<String>,
    /// `json`, `ndjson`, `csv` or `arrow`; else `Accept` decides.
    #[param(inline)]
    format: Option<Format>,
}

/// The endpoints of a policy with what they answered, since when, and when they were last asked.
#[utoipa::path(get, path = "/policies/{no}/endpoints", operation_id = "policies.endpoints",
    tag = "policies", params(("no" = u32, Path), StateQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn endpoints(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    headers: HeaderMap,
    Query(query): Query<StateQuery>,
) -> Result<Response> {
    let policy = policies::find(&state, &caller, no)?;
    let wanted = query.state.as_deref().map(str::parse::<PolicyState>).transpose();
    let wanted = wanted.map_err(|message| Problem::invalid("state", message))?;
    let format = FormatQuery { format: query.format }.choose(&headers);
    let sql = sql::endpoints(&policy, wanted);
    ask(&state, &caller, sql, format, format!("policy/{no}")).await
}

/// How often each endpoint went from pass to fail or back, the most restless first.
#[utoipa::path(get, path = "/policies/{no}/flips", operation_id = "policies.flips",
    tag = "policies", params(("no" = u32, Path), FormatQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn flips(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    headers: HeaderMap,
    Query(form): Query<FormatQuery>,
) -> Result<Response> {
    let policy = policies::find(&state, &caller, no)?;
    let sql = sql::flips(&policy);
    ask(&state, &caller, sql, form.choose(&headers), format!("policy/{no}")).await
}
