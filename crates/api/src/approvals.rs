//! `/approvals`: what waits for a second person.

use axum::extract::State;
use http::StatusCode;
use muster_catalog::{Row, Tx, args, statements};
use muster_hunts as hunts;
use muster_types::{HuntNo, Role, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::authorise::Target;
use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::hunts::act::{Reason, announce};
use crate::hunts::refused;
use crate::page::{self, Page};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

statements! {
    INSERT = "
        INSERT INTO approval
            (no, org, operation, subject, state, reason, requested_by, requested_at, decided_by,
             decided_at, decision_reason)
        VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, NULL, NULL, NULL)";
    LIST = "
        SELECT no, operation, subject, state, reason, requested_by, requested_at, decided_by,
               decided_at, decision_reason
        FROM approval
        WHERE org = $1 AND state = $2 AND no > $3
        ORDER BY no
        LIMIT $4";
    GET = "SELECT subject, state, requested_by FROM approval WHERE no = $1 AND org = $2";
    PENDING_OF = "
        SELECT no FROM approval WHERE org = $1 AND state = 'pending' AND subject = $2";
    DECIDE = "
        UPDATE approval
        SET state = $3, decided_by = $4, decided_at = $5, decision_reason = $6
        WHERE no = $1 AND org = $2 AND state = 'pending' AND requested_by <> $4";
}

/// A request that waits, or waited, for a second person.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Its number.
    pub no: i64,
    /// What was asked for, for example `hunts.create`.
    pub operation: String,
    /// About what, for example `hunt/7`.
    pub subject: String,
    /// `pending`, `approved` or `denied`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested_at: Time,
    /// The second person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When they decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Time>,
    /// Why so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_reason: Option<String>,
}

fn view(row: &Row) -> Result<Approval> {
    Ok(Approval {
        no: row.get("no")?,
        operation: row.get("operation")?,
        subject: row.get("subject")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        requested_by: row.get("requested_by")?,
        requested_at: row.get::<Timestamp>("requested_at")?.into(),
        decided_by: row.get("decided_by")?,
        decided_at: row.get::<Option<Timestamp>>("decided_at")?.map(Time::from),
        decision_reason: row.get("decision_reason")?,
    })
}

/// Records that something waits for a second person.
pub(crate) async fn request(
    tx: &mut Tx,
    caller: &Caller,
    hunt: HuntNo,
    reason: &str,
) -> Result<i64> {
    let no = tx.bump("number/approval").await?;
    let (principal, operation) = (&caller.principal, caller.operation.id);
    let subject = format!("hunt/{hunt}");
    let args = args![no, principal.org, operation, subject, reason, &principal.name, caller.now()];
    tx.execute(&INSERT, args).await?;
    Ok(no)
}

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApprovalQuery {
    /// `pending` (when left out), `approved` or `denied`.
    state: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Requests, oldest first. Who does not decide on everything sees their own.
#[utoipa::path(get, path = "/approvals", operation_id = "approvals.list", tag = "approvals",
    params(ApprovalQuery), responses((status = OK, body = Page<Approval>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ApprovalQuery>,
) -> Result<axum::Json<Page<Approval>>> {
    let limit = page::limit(query.limit)?;
    let after = page::after_number(query.after.as_deref(), 0)?;
    let word = query.state.as_deref().unwrap_or("pending");
    let args = args![caller.principal.org, word, after, limit + 1];
    let rows = state.catalog.fetch_all(&LIST, args).await?;
    let all = rows.iter().map(view).collect::<Result<Vec<_>>>()?;
    let mut page = Page::cut(all, limit, |approval| approval.no.to_string());
    if !caller.principal.holds_everywhere(Role::Responder) {
        page.items.retain(|approval| approval.requested_by == caller.principal.name);
    }
    Ok(axum::Json(page))
}

/// Agrees; what waited goes on.
#[utoipa::path(post, path = "/approvals/{no}/approve", operation_id = "approvals.approve",
    tag = "approvals", params(("no" = i64, Path)), request_body = Reason,
    responses((status = NO_CONTENT)))]
pub(crate) async fn approve(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
    Json(body): Json<Reason>,
) -> Result<StatusCode> {
    decide(&state, &caller, no, true, &body.reason).await
}

/// Refuses; what waited is stopped.
#[utoipa::path(post, path = "/approvals/{no}/deny", operation_id = "approvals.deny",
    tag = "approvals", params(("no" = i64, Path)), request_body = Reason,
    responses((status = NO_CONTENT)))]
pub(crate) async fn deny(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
    Json(body): Json<Reason>,
) -> Result<StatusCode> {
    decide(&state, &caller, no, false, &body.reason).await
}

/// Agrees to a hunt by its own number.
pub(crate) async fn approve_hunt(
    state: &ApiState,
    caller: &Caller,
    hunt: HuntNo,
    reason: &str,
) -> Result<StatusCode> {
    let args = args![caller.principal.org, format!("hunt/{hunt}")];
    let row = state.catalog.fetch_optional(&PENDING_OF, args).await?;
    let row = row.ok_or_else(|| {
        Problem::new(Code::Conflict, format!("hunt {hunt} does not wait for approval"))
    })?;
    decide(state, caller, row.get("no")?, true, reason).await
}

async fn decide(
    state: &ApiState,
    caller: &Caller,
    no: i64,
    agree: bool,
    reason: &str,
) -> Result<StatusCode> {
    let (org, by) = (caller.principal.org, &caller.principal.name);
    let missing = || Problem::not_found(format_args!("approval {no}"));
    let mut tx = state.begin().await?;
    let row = tx.fetch_optional(&GET, args![no, org]).await?.ok_or_else(missing)?;
    if row.get::<String>("requested_by")? == *by {
        let detail = "a second person has to decide; you asked for this yourself";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    caller.insist(Target::OfAnother, "deciding needs the role responder on everything")?;
    let subject: String = row.get("subject")?;
    let hunt = subject.strip_prefix("hunt/").and_then(|no| no.parse().ok()).map(HuntNo);
    let hunt = hunt.ok_or_else(|| Problem::internal("an approval about nothing known"))?;
    match agree {
        true => hunts::approve(&mut tx, org, hunt, by).await.map_err(refused)?,
        false => hunts::stop(&mut tx, org, hunt).await.map_err(refused)?,
    }
    let word = if agree { "approved" } else { "denied" };
    let args = args![no, org, word, by, caller.now(), reason];
    if tx.execute(&DECIDE, args).await? == 0 {
        return Err(Problem::new(Code::Conflict, format!("approval {no} is decided already")));
    }
    caller.record(&mut tx, subject, json!({"approval": no, "reason": reason})).await?;
    tx.commit().await?;
    announce(state).await
}
