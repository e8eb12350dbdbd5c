//! What people do to a hunt: each one compare-and-set statement that raises the feed `hunt`.

use muster_catalog::{Args, Statement, Tx, args};
use muster_types::{HuntNo, OrgId, Timestamp};

use crate::create::{first_token, json};
use crate::pause::PauseRule;
use crate::{HuntError, HuntState, Limits};

muster_catalog::statements! {
    PAUSE = "UPDATE hunt
        SET state = 'paused', pause_reason = $3, change = $4
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL AND state = 'running'";
    RESUME = "UPDATE hunt
        SET state = 'running', pause_reason = NULL, limits = $3, recruit_from = $4, change = $5
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL AND state = 'paused'";
    STOP = "UPDATE hunt
        SET state = 'stopped', ended_at = $3, change = $4
        WHERE org = $1
          AND no = $2
          AND deleted_at IS NULL
          AND state IN ('awaiting_approval', 'running', 'paused')";
    EXTEND = "UPDATE hunt
        SET expires_at = $3, change = $4
        WHERE org = $1
          AND no = $2
          AND deleted_at IS NULL
          AND expires_at < $3
          AND state IN ('awaiting_approval', 'running', 'paused')";
    APPROVE = "UPDATE hunt
        SET state = 'running', approved_by = $3, started_at = $4, recruit_from = $5, change = $6
        WHERE org = $1
          AND no = $2
          AND deleted_at IS NULL
          AND requested_by <> $3
          AND state = 'awaiting_approval'";
    HOLD = "UPDATE hunt
        SET hold_until = $3, change = $4
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL";
    DELETE = "UPDATE hunt
        SET deleted_at = $3, change = $4
        WHERE org = $1
          AND no = $2
          AND deleted_at IS NULL
          AND (hold_until IS NULL OR hold_until <= $3)
          AND state IN ('stopped', 'finished', 'expired')";
    STANDING = "SELECT state, pause_reason, limits FROM hunt
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL";
}

/// Stops recruiting and handing out until [`resume`].
///
/// # Errors
/// [`HuntError::Unknown`], [`HuntError::State`] unless it is running, or the catalog's.
pub async fn pause(tx: &mut Tx, org: OrgId, no: HuntNo, reason: &str) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    let args = args![org, no, reason, change];
    apply(tx, org, no, &PAUSE, args, "only a running one can be paused").await
}

/// Goes on. When it had paused itself, the limit that made it do so is lifted: a person has looked.
///
/// # Errors
/// [`HuntError::Unknown`], [`HuntError::State`] unless it is paused, or the catalog's.
pub async fn resume(tx: &mut Tx, org: OrgId, no: HuntNo) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    let now = tx.now().await?;
    let (_, reason, mut limits) = standing(tx, org, no).await?;
    if let Some(rule) = reason.as_deref().and_then(PauseRule::of_reason) {
        rule.lift(&mut limits);
    }
    let args = args![org, no, json(&limits)?, now, change];
    apply(tx, org, no, &RESUME, args, "only a paused one can be resumed").await
}

/// Ends it; unfinished tasks are cancelled.
///
/// # Errors
/// [`HuntError::Unknown`], [`HuntError::State`] when it has ended, or the catalog's.
pub async fn stop(tx: &mut Tx, org: OrgId, no: HuntNo) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    let now = tx.now().await?;
    let args = args![org, no, now, change];
    apply(tx, org, no, &STOP, args, "it has ended already").await
}

/// Lets it live until `expires_at`, which is later than now planned.
///
/// # Errors
/// [`HuntError::Unknown`], [`HuntError::State`] when it has ended or would live no longer, or the catalog's.
pub async fn extend(
    tx: &mut Tx,
    org: OrgId,
    no: HuntNo,
    expires_at: Timestamp,
) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    if expires_at > tx.now().await?.plus(crate::LIFE_MAX) {
        return Err(HuntError::Invalid("it would live too long".to_owned()));
    }
    let args = args![org, no, expires_at, change];
    let problem = "only one that has not ended can be extended, to a later time";
    apply(tx, org, no, &EXTEND, args, problem).await
}

/// The second person agrees.
///
/// # Errors
/// [`HuntError::Unknown`], [`HuntError::State`] unless it awaits approval by somebody else, or the catalog's.
pub async fn approve(tx: &mut Tx, org: OrgId, no: HuntNo, by: &str) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    let now = tx.now().await?;
    let args = args![org, no, by, now, first_token(now), change];
    let problem = "only one that awaits approval can be approved, and not by who asked for it";
    apply(tx, org, no, &APPROVE, args, problem).await
}

/// Keeps its results at least until then, or ends that with `None`.
///
/// # Errors
/// [`HuntError::Unknown`], or the catalog's.
pub async fn set_hold(
    tx: &mut Tx,
    org: OrgId,
    no: HuntNo,
    until: Option<Timestamp>,
) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    apply(tx, org, no, &HOLD, args![org, no, until, change], "it cannot be held").await
}

/// Deletes it: its rows are hidden at once and gone after compaction.
///
/// # Errors
/// [`HuntError::Unknown`], [`HuntError::State`] unless it has ended and is not held, or the catalog's.
pub async fn delete(tx: &mut Tx, org: OrgId, no: HuntNo) -> Result<(), HuntError> {
    let change = tx.bump("hunt").await?;
    let now = tx.now().await?;
    let args = args![org, no, now, change];
    let problem = "only one that has ended and is not held can be deleted";
    apply(tx, org, no, &DELETE, args, problem).await
}

async fn apply(
    tx: &mut Tx,
    org: OrgId,
    no: HuntNo,
    statement: &Statement,
    args: Args,
    problem: &str,
) -> Result<(), HuntError> {
    if tx.execute(statement, args).await? == 1 {
        return Ok(());
    }
    let (state, ..) = standing(tx, org, no).await?;
    Err(HuntError::State { no, state, problem: problem.to_owned() })
}

async fn standing(
    tx: &mut Tx,
    org: OrgId,
    no: HuntNo,
) -> Result<(HuntState, Option<String>, Limits), HuntError> {
    let row = tx.fetch_optional(&STANDING, args![org, no]).await?;
    let row = row.ok_or(HuntError::Unknown(no))?;
    Ok((
        crate::rows::word(&row, "state")?,
        row.get("pause_reason")?,
        crate::rows::read(&row, "limits")?,
    ))
}
