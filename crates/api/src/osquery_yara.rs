//! `/osquery/yara`: YARA rules that osquery agents fetch by name.

use axum::extract::State;
use http::StatusCode;
use muster_schedules::{self as schedules, YaraRules};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Problem, Result};
use crate::schedules::refused;
use crate::state::{ApiState, told};
use crate::time::Time;

/// A file of YARA rules.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OsqueryYara {
    /// Its name: agents fetch it from `/api/osquery/yara/NAME` of the agents' listener.
    pub name: String,
    /// The rules; left out in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Their length in bytes.
    pub byte_count: u64,
    /// When it was stored.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
}

impl OsqueryYara {
    fn of(rules: YaraRules, with_text: bool) -> Self {
        Self {
            name: rules.name,
            byte_count: rules.text.len() as u64,
            text: with_text.then_some(rules.text),
            created_at: rules.created_at.into(),
            created_by: rules.created_by,
        }
    }
}

/// Rules to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOsqueryYara {
    /// The rules, at most 512 KiB.
    text: String,
}

/// Files of YARA rules, by name.
#[utoipa::path(get, path = "/osquery/yara", operation_id = "osquery_yara.list", tag = "schedules",
    params(PageQuery), responses((status = OK, body = Page<OsqueryYara>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<OsqueryYara>>> {
    let limit = query.limit()?;
    let (org, after) = (caller.principal.org, query.after.unwrap_or_default());
    let found = schedules::yara_list(&state.catalog, org, &after, limit + 1).await?;
    let found = found.into_iter().map(|rules| OsqueryYara::of(rules, false)).collect();
    Ok(axum::Json(Page::cut(found, limit, |one: &OsqueryYara| one.name.clone())))
}

/// One file.
#[utoipa::path(get, path = "/osquery/yara/{name}", operation_id = "osquery_yara.get",
    tag = "schedules", params(("name" = String, Path)),
    responses((status = OK, body = OsqueryYara)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<OsqueryYara>> {
    let found = schedules::yara_get(&state.catalog, caller.principal.org, &name).await?;
    let found = found.ok_or_else(|| missing(&name))?;
    Ok(axum::Json(OsqueryYara::of(found, true)))
}

/// Stores a file; an earlier one of that name is replaced.
#[utoipa::path(put, path = "/osquery/yara/{name}", operation_id = "osquery_yara.put",
    tag = "schedules", params(("name" = String, Path)), request_body = NewOsqueryYara,
    responses((status = NO_CONTENT)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Json(body): Json<NewOsqueryYara>,
) -> Result<StatusCode> {
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    let mut tx = state.begin().await?;
    schedules::yara_put_in(&mut tx, org, (&name, &body.text), by, now).await.map_err(refused)?;
    let details = json!({"byte_count": body.text.len()});
    caller.record(&mut tx, format!("osquery_yara/{name}"), details).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a file.
#[utoipa::path(delete, path = "/osquery/yara/{name}", operation_id = "osquery_yara.delete",
    tag = "schedules", params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    if !schedules::yara_delete_in(&mut tx, caller.principal.org, &name).await? {
        return Err(missing(&name));
    }
    caller.record(&mut tx, format!("osquery_yara/{name}"), json!({})).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format_args!("YARA rules {name:?}"))
}
