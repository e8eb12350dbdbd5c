//! `/audit`.

use axum::extract::State;
use muster_catalog::{args, statements};
use muster_types::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::verify::{read, verify};
use crate::caller::Caller;
use crate::extract::Query;
use crate::page::{self, Page};
use crate::problem::{Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

statements! {
    LIST = "
        SELECT instance, seq, at, org, principal, address, operation, subject, outcome, details
        FROM audit
        WHERE org = $1
          AND (at < $2 OR (at = $2 AND (instance, seq) > ($3, $4)))
          AND at >= $5
          AND (CAST($6 AS TEXT) IS NULL OR principal = $6)
          AND (CAST($7 AS TEXT) IS NULL OR operation = $7)
          AND (CAST($8 AS TEXT) IS NULL OR subject = $8)
          AND (CAST($9 AS TEXT) IS NULL OR outcome = $9)
        ORDER BY at DESC, instance, seq
        LIMIT $10";
}

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Not older than this.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Time>,
    /// By this user.
    principal: Option<String>,
    /// Of this operation, for example `hunts.create`.
    operation: Option<String>,
    /// About this subject, for example `hunt/7`.
    subject: Option<String>,
    /// `ok`, `denied` or `failed`.
    outcome: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// One record.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// The instance that wrote it.
    pub instance: Uuid,
    /// Its number in that instance's chain.
    pub seq: i64,
    /// When.
    pub at: Time,
    /// Who.
    pub principal: String,
    /// From where.
    pub address: String,
    /// What.
    pub operation: String,
    /// To what.
    pub subject: String,
    /// `ok`, `denied` or `failed`.
    pub outcome: String,
    /// More.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}

/// Records, newest first.
#[utoipa::path(get, path = "/audit", operation_id = "audit.list", tag = "audit", params(AuditQuery),
    responses((status = OK, body = Page<AuditRecord>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<Page<AuditRecord>>> {
    let limit = page::limit(query.limit)?;
    let (at, instance, seq) = match &query.after {
        None => (Timestamp(i64::MAX), InstanceId(Uuid::nil()), i64::MAX),
        Some(cursor) => read_cursor(cursor).ok_or_else(|| {
            Problem::invalid("after", "this is no cursor; take `next` of the page before")
        })?,
    };
    let since = query.since.map_or(Timestamp(i64::MIN), |time| time.0);
    let rows = state
        .catalog
        .stale()
        .fetch_all(
            &LIST,
            args![
                caller.principal.org,
                at,
                instance,
                seq,
                since,
                query.principal,
                query.operation,
                query.subject,
                query.outcome,
                limit + 1
            ],
        )
        .await?;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        let entry = read(row)?;
        let details = serde_json::from_str(&entry.details).unwrap_or(serde_json::Value::Null);
        records.push(AuditRecord {
            instance: row.get::<InstanceId>("instance")?.0,
            seq: row.get("seq")?,
            at: entry.at.into(),
            principal: entry.principal,
            address: entry.address,
            operation: entry.operation,
            subject: entry.subject,
            outcome: entry.outcome,
            details,
        });
    }
    caller.note("items", records.len().min(limit as usize));
    let cursor = |r: &AuditRecord| format!("{}.{}.{}", r.at.0.0, r.instance.simple(), r.seq);
    Ok(axum::Json(Page::cut(records, limit, cursor)))
}

fn read_cursor(cursor: &str) -> Option<(Timestamp, InstanceId, i64)> {
    let mut parts = cursor.splitn(3, '.');
    let at = parts.next()?.parse().ok()?;
    let instance = Uuid::parse_str(parts.next()?).ok()?;
    Some((Timestamp(at), InstanceId(instance), parts.next()?.parse().ok()?))
}

/// Whether the log is as it was written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Every record is there and unchanged.
    pub intact: bool,
    /// How many chains were read.
    pub chains: u64,
    /// How many records.
    pub records: u64,
    /// Where it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<BrokenAt>,
}

/// The first record that is not as it was written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BrokenAt {
    /// The instance whose chain it is in.
    pub instance: Uuid,
    /// Its number.
    pub seq: i64,
}

/// Reads the whole log and checks its chains.
#[utoipa::path(get, path = "/audit/verify", operation_id = "audit.verify", tag = "audit",
    responses((status = OK, body = AuditVerdict)))]
pub(crate) async fn check(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<axum::Json<AuditVerdict>> {
    let verdict = match verify(&state.catalog).await? {
        Ok(done) => AuditVerdict {
            intact: true,
            chains: done.chains,
            records: done.records,
            broken_at: None,
        },
        Err(broken) => AuditVerdict {
            intact: false,
            chains: 0,
            records: 0,
            broken_at: Some(BrokenAt { instance: broken.instance.0, seq: broken.seq }),
        },
    };
    caller.note("intact", verdict.intact);
    Ok(axum::Json(verdict))
}
