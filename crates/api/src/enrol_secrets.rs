//! `/enrol-secrets`: what a new agent shows to be let in.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use muster_catalog::Tx;
use muster_endpoints::{self as endpoints, NewSecret};
use muster_types::{OrgId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::labels::refused;
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::state::{ApiState, told};
use crate::time::Time;

/// Length of a secret that was made elsewhere.
const TEXT_CHARS: std::ops::RangeInclusive<usize> = 8..=512;

/// A secret, without its text.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EnrolSecret {
    /// Its number, to revoke it by.
    pub no: i64,
    /// What it is for.
    pub name: String,
    /// Labels that agents get which enrol with it.
    pub labels: Vec<String>,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// How many agents enrolled with it.
    pub uses: u64,
    /// Whether it is good only on a connection with a client certificate.
    #[serde(default)]
    pub client_certificate: bool,
}

/// Secrets, by number.
#[utoipa::path(get, path = "/enrol-secrets", operation_id = "enrol_secrets.list",
    tag = "enrolment", params(PageQuery), responses((status = OK, body = Page<EnrolSecret>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<EnrolSecret>>> {
    let secrets = endpoints::list_secrets(&state.catalog, caller.principal.org).await?;
    let view = |secret: endpoints::EnrolSecret| EnrolSecret {
        no: secret.no,
        name: secret.name,
        labels: secret.labels,
        created_at: secret.created_at.into(),
        created_by: secret.created_by,
        expires_at: secret.expires_at.map(Time::from),
        revoked_at: secret.revoked_at.map(Time::from),
        uses: secret.uses,
        client_certificate: secret.client_certificate,
    };
    Ok(axum::Json(query.of_numbered(secrets, |secret| secret.no)?.map(view)))
}

/// A secret to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEnrolSecret {
    /// What it is for.
    #[schema(example = "laptops of the Berlin office")]
    name: String,
    /// Labels that agents get which enrol with it; made when they do not exist.
    #[serde(default)]
    labels: Vec<String>,
    /// Ends by itself after so many seconds.
    expires_in_seconds: Option<u64>,
    /// Good only on a connection with a client certificate, and so are the node keys of osquery agents
    /// that enrol with it.
    #[serde(default)]
    client_certificate: bool,
    /// The text, when agents have one already from another server; 8 to 512 characters. Else it is made
    /// here.
    secret: Option<String>,
}

/// A secret, with its text.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedEnrolSecret {
    /// Its number, to revoke it by.
    pub no: i64,
    /// Shown this once.
    pub secret: String,
}

/// Makes a secret for new agents.
#[utoipa::path(post, path = "/enrol-secrets", operation_id = "enrol_secrets.create",
    tag = "enrolment", request_body = NewEnrolSecret,
    responses((status = CREATED, body = CreatedEnrolSecret)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewEnrolSecret>,
) -> Result<(StatusCode, axum::Json<CreatedEnrolSecret>)> {
    let (principal, now) = (&caller.principal, caller.now());
    let expires_at = new.expires_in_seconds.map(|s| now.plus(Duration::from_secs(s)));
    let secret = NewSecret {
        name: new.name,
        labels: new.labels,
        expires_at,
        client_certificate: new.client_certificate,
    };
    let mut tx = state.begin().await?;
    let (org, by) = (principal.org, &principal.name);
    let (no, text) = match new.secret {
        None => {
            endpoints::create_secret_in(&mut tx, org, &secret, by, now).await.map_err(refused)?
        }
        Some(text) => (adopt(&mut tx, org, &secret, &text, by, now).await?, text),
    };
    let details = json!({"name": secret.name, "labels": secret.labels});
    caller.record(&mut tx, format!("enrol_secret/{no}"), details).await?;
    tx.commit().await?;
    told(state.directory.announce().await);
    Ok((StatusCode::CREATED, axum::Json(CreatedEnrolSecret { no, secret: text })))
}

/// Takes over a secret that agents have already.
async fn adopt(
    tx: &mut Tx,
    org: OrgId,
    secret: &NewSecret,
    text: &str,
    by: &str,
    now: Timestamp,
) -> Result<i64> {
    if !TEXT_CHARS.contains(&text.trim().chars().count()) {
        return Err(Problem::invalid("/secret", "secret: take 8 to 512 characters"));
    }
    let adopted = endpoints::adopt_secret_in(tx, org, secret, text, by, now).await;
    let known = "this secret is known already; if it was revoked, agents need another one";
    adopted.map_err(refused)?.ok_or_else(|| Problem::new(Code::Conflict, known))
}

/// Ends a secret: no new agent enrols with it; those that did stay.
#[utoipa::path(delete, path = "/enrol-secrets/{no}", operation_id = "enrol_secrets.revoke",
    tag = "enrolment", params(("no" = i64, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    if !endpoints::revoke_secret_in(&mut tx, caller.principal.org, no, caller.now()).await? {
        return Err(Problem::not_found(format_args!("enrol secret {no} that is in use")));
    }
    caller.record(&mut tx, format!("enrol_secret/{no}"), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
