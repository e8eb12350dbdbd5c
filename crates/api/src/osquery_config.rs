//! `/osquery`: what osquery agents are configured with, besides schedules.

use axum::extract::State;
use http::StatusCode;
use muster_schedules::{self as schedules, Fragment, NewFragment};
use muster_types::{AgentKind, AgentNo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Problem, Result};
use crate::schedules::{refused, word};
use crate::state::{ApiState, told};
use crate::time::Time;

/// A part of osquery's configuration, for everyone, a label or a platform.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OsqueryConfig {
    /// Its name.
    pub name: String,
    /// Only for endpoints with this label; empty: for everyone.
    pub label: String,
    /// Systems, divided by commas; empty: all.
    pub platforms: String,
    /// Of two parts that say different things the one with the higher number wins; of equal ones the one
    /// whose name sorts first.
    pub precedence: i64,
    /// Sections of osquery's configuration.
    #[schema(value_type = Object, example = json!({"options": {"logger_tls_period": 10}}))]
    pub config: Map<String, Value>,
    /// When it was stored.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
}

impl From<Fragment> for OsqueryConfig {
    fn from(fragment: Fragment) -> Self {
        Self {
            name: fragment.name,
            label: fragment.label,
            platforms: fragment.platforms.to_string(),
            precedence: fragment.precedence,
            config: fragment.sections,
            created_at: fragment.created_at.into(),
            created_by: fragment.created_by,
        }
    }
}

/// A part to be stored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOsqueryConfig {
    /// Only for endpoints with this label.
    #[serde(default)]
    label: String,
    /// Systems, divided by commas: `darwin`, `linux`, `windows`, `posix`.
    platforms: Option<String>,
    /// Of two parts that say different things the one with the higher number wins.
    #[serde(default)]
    precedence: i64,
    /// Sections of osquery's configuration: objects are merged member by member, everything else is
    /// replaced, `null` takes away what parts with lower precedence say.
    #[schema(value_type = Object, example = json!({"options": {"logger_tls_period": 10}}))]
    config: Map<String, Value>,
}

/// Parts, by name.
#[utoipa::path(get, path = "/osquery/config", operation_id = "osquery_config.list",
    tag = "schedules", params(PageQuery), responses((status = OK, body = Page<OsqueryConfig>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<OsqueryConfig>>> {
    let all = schedules::fragments(&state.catalog, caller.principal.org).await?;
    Ok(axum::Json(query.of_named(all, |one| &one.name)?.map(OsqueryConfig::from)))
}

/// One part.
#[utoipa::path(get, path = "/osquery/config/{name}", operation_id = "osquery_config.get",
    tag = "schedules", params(("name" = String, Path)),
    responses((status = OK, body = OsqueryConfig)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<OsqueryConfig>> {
    let all = schedules::fragments(&state.catalog, caller.principal.org).await?;
    let found = all.into_iter().find(|one| one.name == name).ok_or_else(|| missing(&name))?;
    Ok(axum::Json(found.into()))
}

/// Stores a part; an earlier one of that name is replaced.
#[utoipa::path(put, path = "/osquery/config/{name}", operation_id = "osquery_config.put",
    tag = "schedules", params(("name" = String, Path)), request_body = NewOsqueryConfig,
    responses((status = NO_CONTENT)))]
pub(crate) async fn put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Json(body): Json<NewOsqueryConfig>,
) -> Result<StatusCode> {
    let new = NewFragment {
        name,
        label: body.label,
        platforms: word("/platforms", body.platforms)?.unwrap_or_default(),
        precedence: body.precedence,
        sections: body.config,
    };
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    if !new.label.is_empty() && state.directory.snapshot().label(org, &new.label).is_none() {
        return Err(Problem::invalid("/label", format!("there is no label {:?}", new.label)));
    }
    let mut tx = state.begin().await?;
    schedules::put_fragment_in(&mut tx, org, &new, by, now).await.map_err(refused)?;
    let sections: Vec<&String> = new.sections.keys().collect();
    let details = json!({"sections": sections, "label": new.label});
    caller.record(&mut tx, format!("osquery_config/{}", new.name), details).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a part.
#[utoipa::path(delete, path = "/osquery/config/{name}", operation_id = "osquery_config.delete",
    tag = "schedules", params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    if !schedules::delete_fragment_in(&mut tx, caller.principal.org, &name).await? {
        return Err(missing(&name));
    }
    caller.record(&mut tx, format!("osquery_config/{name}"), json!({})).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

/// The document one osquery agent is given now: schedules and parts, merged.
#[utoipa::path(get, path = "/osquery/document/{no}", operation_id = "osquery_config.document",
    tag = "schedules", params(("no" = u32, Path, description = "The agent.")),
    responses((status = OK, body = Object)))]
pub(crate) async fn document(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<axum::Json<Value>> {
    let (access, snapshot) = (caller.access(), state.directory.snapshot());
    let seen = |no: AgentNo| access.agents.as_ref().is_none_or(|agents| agents.contains(no));
    let agent = snapshot.agent(AgentNo(no)).filter(|agent| {
        agent.org == access.org && agent.kind == AgentKind::Osquery && seen(agent.no)
    });
    let agent = agent.ok_or_else(|| Problem::not_found(format_args!("osquery agent {no}")))?;
    let rendered = state.schedules.config_for(agent);
    serde_json::from_slice(&rendered.bytes).map(axum::Json).map_err(Problem::internal)
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format_args!("osquery configuration {name:?}"))
}
