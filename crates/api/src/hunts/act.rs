//! What people do to a hunt.

use std::time::Duration;

use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use muster_bus::Topic;
use muster_hunts::{self as hunts, HuntDef};
use muster_types::HuntNo;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;
use utoipa::ToSchema;

use super::{find, find_to_change, refused};
use crate::approvals;
use crate::caller::Caller;
use crate::extract::{Json, Path};
use crate::problem::Result;
use crate::state::{ApiState, told};
use crate::time::Time;

/// Clocks of instances and of the database differ a little.
const BIT_LATER: Duration = Duration::from_millis(500);

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For the log and for others.
    #[serde(default)]
    pub(crate) reason: String,
}

/// Stops recruiting and handing out; what was handed out goes on.
#[utoipa::path(post, path = "/hunts/{no}/pause", operation_id = "hunts.pause", tag = "hunts",
    params(("no" = u64, Path)), request_body = Reason, responses((status = NO_CONTENT)))]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    Json(body): Json<Reason>,
) -> Result<StatusCode> {
    let hunt = find_to_change(&state, &caller, no).await?;
    let why = match body.reason.as_str() {
        "" => format!("paused by {}", caller.principal.name),
        reason => format!("paused by {}: {reason}", caller.principal.name),
    };
    let mut tx = state.begin().await?;
    hunts::pause(&mut tx, hunt.org, hunt.no, &why).await.map_err(refused)?;
    caller.record(&mut tx, subject(hunt.no), json!({"reason": body.reason})).await?;
    tx.commit().await?;
    announce(&state).await
}

/// Goes on.
#[utoipa::path(post, path = "/hunts/{no}/resume", operation_id = "hunts.resume", tag = "hunts",
    params(("no" = u64, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<StatusCode> {
    let hunt = find_to_change(&state, &caller, no).await?;
    let mut tx = state.begin().await?;
    hunts::resume(&mut tx, hunt.org, hunt.no).await.map_err(refused)?;
    caller.record(&mut tx, subject(hunt.no), json!({})).await?;
    tx.commit().await?;
    announce(&state).await
}

/// Ends it: nobody else is asked, unfinished tasks are cancelled at their agents. Rows stay.
#[utoipa::path(post, path = "/hunts/{no}/stop", operation_id = "hunts.stop", tag = "hunts",
    params(("no" = u64, Path)), request_body = Reason, responses((status = NO_CONTENT)))]
pub(crate) async fn stop(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    Json(body): Json<Reason>,
) -> Result<StatusCode> {
    let hunt = find_to_change(&state, &caller, no).await?;
    let mut tx = state.begin().await?;
    hunts::stop(&mut tx, hunt.org, hunt.no).await.map_err(refused)?;
    caller.record(&mut tx, subject(hunt.no), json!({"reason": body.reason})).await?;
    tx.commit().await?;
    // What waits counts as cancelled then, by time alone: pages that are told of changes have to look again.
    let later = state.clone();
    state.tasks.spawn(async move {
        let settled = sleep(HuntDef::UNSETTLED + BIT_LATER);
        if later.shutdown.run_until_cancelled(settled).await.is_some() {
            later.bus.publish(Topic::Progress, Bytes::new());
        }
    });
    announce(&state).await
}

/// A longer life.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// From now.
    expires_in_seconds: u64,
}

/// Lets it live longer.
#[utoipa::path(post, path = "/hunts/{no}/extend", operation_id = "hunts.extend", tag = "hunts",
    params(("no" = u64, Path)), request_body = Extension, responses((status = NO_CONTENT)))]
pub(crate) async fn extend(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    Json(body): Json<Extension>,
) -> Result<StatusCode> {
    let hunt = find_to_change(&state, &caller, no).await?;
    let mut tx = state.begin().await?;
    let until = tx.now().await?.plus(Duration::from_secs(body.expires_in_seconds));
    hunts::extend(&mut tx, hunt.org, hunt.no, until).await.map_err(refused)?;
    let details = json!({"expires_at": Time::from(until)});
    caller.record(&mut tx, subject(hunt.no), details).await?;
    tx.commit().await?;
    announce(&state).await
}

/// How long its results are kept in any case.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Until then; missing: no longer held.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Why.
    #[serde(default)]
    reason: String,
}

/// Keeps its results from retention and deletion.
#[utoipa::path(post, path = "/hunts/{no}/hold", operation_id = "hunts.hold", tag = "hunts",
    params(("no" = u64, Path)), request_body = Hold, responses((status = NO_CONTENT)))]
pub(crate) async fn hold(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    Json(body): Json<Hold>,
) -> Result<StatusCode> {
    let hunt = find(&state, &caller, no).await?;
    let mut tx = state.begin().await?;
    let until = body.until.map(|time| time.0);
    hunts::set_hold(&mut tx, hunt.org, hunt.no, until).await.map_err(refused)?;
    let details = json!({"until": body.until, "reason": body.reason});
    caller.record(&mut tx, subject(hunt.no), details).await?;
    tx.commit().await?;
    announce(&state).await
}

/// Agrees as the second person.
#[utoipa::path(post, path = "/hunts/{no}/approve", operation_id = "hunts.approve", tag = "hunts",
    params(("no" = u64, Path)), request_body = Reason, responses((status = NO_CONTENT)))]
pub(crate) async fn approve(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    Json(body): Json<Reason>,
) -> Result<StatusCode> {
    let hunt = find(&state, &caller, no).await?;
    approvals::approve_hunt(&state, &caller, hunt.no, &body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a hunt that has ended: it and its rows disappear at once.
#[utoipa::path(delete, path = "/hunts/{no}", operation_id = "hunts.delete", tag = "hunts",
    params(("no" = u64, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<StatusCode> {
    let hunt = find(&state, &caller, no).await?;
    let mut tx = state.begin().await?;
    hunts::delete(&mut tx, hunt.org, hunt.no).await.map_err(refused)?;
    caller.record(&mut tx, subject(hunt.no), json!({"title": hunt.title})).await?;
    tx.commit().await?;
    announce(&state).await
}

pub(crate) async fn announce(state: &ApiState) -> Result<StatusCode> {
    told(state.hunts.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

fn subject(no: HuntNo) -> String {
    format!("hunt/{no}")
}
