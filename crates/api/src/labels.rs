//! `/labels`.

use axum::extract::State;
use http::StatusCode;
use muster_catalog::{args, statements};
use muster_endpoints::{self as endpoints, LabelError};
use muster_inventory::rule;
use muster_types::{EndpointNo, Role};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::scope;
use crate::state::{ApiState, told};
use crate::time::Time;

const MEMBERS_MAX: usize = 100_000;

statements! {
    small SCOPES = "SELECT DISTINCT scope FROM role_binding WHERE scope <> '{}'";
}

/// A named set of endpoints.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How many endpoints carry it, of those the caller may see.
    pub endpoint_count: u64,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
}

/// Labels, by name. A scoped caller sees those that an endpoint in scope carries.
#[utoipa::path(get, path = "/labels", operation_id = "labels.list", tag = "labels",
    params(PageQuery), responses((status = OK, body = Page<Label>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Label>>> {
    let limit = query.limit()?;
    let after = query.after.unwrap_or_default();
    let access = caller.access();
    let snapshot = state.directory.snapshot();
    let mut labels: Vec<_> = snapshot
        .labels(access.org)
        .filter(|label| *label.name > *after)
        .map(|label| (scope::within(&snapshot, label.members.clone(), &access).len(), label))
        .filter(|(count, _)| access.agents.is_none() || *count > 0)
        .map(|(endpoint_count, label)| Label {
            name: label.name.to_string(),
            description: label.description.to_string(),
            endpoint_count,
            created_at: label.created_at.into(),
            created_by: label.created_by.to_string(),
        })
        .collect();
    labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(axum::Json(Page::cut(labels, limit, |label| label.name.clone())))
}

/// A label to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLabel {
    /// 1 to 64 letters, digits, and `. _ - : /` between them.
    name: String,
    /// What it is for.
    #[serde(default)]
    description: String,
}

/// Makes a label.
#[utoipa::path(post, path = "/labels", operation_id = "labels.create", tag = "labels",
    request_body = NewLabel, responses((status = CREATED, body = Label)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewLabel>,
) -> Result<(StatusCode, axum::Json<Label>)> {
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    let mut tx = state.begin().await?;
    endpoints::create_label_in(&mut tx, org, &new.name, &new.description, by, now)
        .await
        .map_err(refused)?;
    caller.record(&mut tx, format!("label/{}", new.name), json!({})).await?;
    tx.commit().await?;
    told(state.directory.announce().await);
    let label = Label {
        name: new.name,
        description: new.description,
        endpoint_count: 0,
        created_at: now.into(),
        created_by: by.clone(),
    };
    Ok((StatusCode::CREATED, axum::Json(label)))
}

/// Deletes a label. One that roles are granted on is refused.
#[utoipa::path(delete, path = "/labels/{name}", operation_id = "labels.delete", tag = "labels",
    params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    if is_granted_on(&state, &name).await? {
        let detail = format!("roles are granted on {name:?}; take those away first");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let org = caller.principal.org;
    let mut tx = state.begin().await?;
    endpoints::delete_label_in(&mut tx, org, &name, caller.now()).await.map_err(refused)?;
    rule::remove_deleted(&mut tx).await?;
    caller.record(&mut tx, format!("label/{name}"), json!({})).await?;
    tx.commit().await?;
    told(state.directory.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

/// Endpoints that carry a label, by number.
#[utoipa::path(get, path = "/labels/{name}/endpoints", operation_id = "labels.members",
    tag = "labels", params(("name" = String, Path), PageQuery),
    responses((status = OK, body = Page<u32>)))]
pub(crate) async fn members(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<u32>>> {
    let limit = query.limit()?;
    let after = query.after_number(0)?;
    let access = caller.access();
    let snapshot = state.directory.snapshot();
    let missing = || Problem::not_found(format_args!("label {name:?}"));
    let label = snapshot.label(access.org, &name).ok_or_else(missing)?;
    let seen = scope::within(&snapshot, label.members.clone(), &access);
    if seen.is_empty() && access.agents.is_some() {
        return Err(missing());
    }
    let from = u32::try_from(after.saturating_add(1)).unwrap_or(u32::MAX);
    let found = seen.range(from..).take(limit as usize + 1).collect();
    Ok(axum::Json(Page::cut(found, limit, |no: &u32| no.to_string())))
}

/// Which endpoints shall carry a label from now on, and which no longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberChange {
    /// Give it to these.
    #[serde(default)]
    add: Vec<u32>,
    /// Take it from these.
    #[serde(default)]
    remove: Vec<u32>,
}

/// How many endpoints changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MembersChanged {
    /// Carry it now and did not before.
    pub added: u64,
    /// Carried it and do no longer.
    pub removed: u64,
}

/// Gives a label to endpoints and takes it from others. One that roles are granted on decides who
/// sees what, so it takes an administrator.
#[utoipa::path(post, path = "/labels/{name}/endpoints", operation_id = "labels.change",
    tag = "labels", params(("name" = String, Path)), request_body = MemberChange,
    responses((status = OK, body = MembersChanged)))]
pub(crate) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Json(change): Json<MemberChange>,
) -> Result<axum::Json<MembersChanged>> {
    if change.add.len() + change.remove.len() > MEMBERS_MAX {
        let detail = format!("more than {MEMBERS_MAX} endpoints at once; do it in parts");
        return Err(Problem::invalid("", detail));
    }
    let administers = caller.principal.holds_everywhere(Role::Administrator);
    if !administers && is_granted_on(&state, &name).await? {
        let detail = format!("roles are granted on {name:?}, so only an administrator changes it");
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    if rule::find(&state.catalog, org, &name).await?.is_some() {
        let detail = format!("{name:?} follows a rule; change the rule, or end it first");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let numbers = |list: &[u32]| list.iter().copied().map(EndpointNo).collect::<Vec<_>>();
    let (add, remove) = (numbers(&change.add), numbers(&change.remove));
    let mut tx = state.begin().await?;
    let added = endpoints::add_members_in(&mut tx, org, &name, &add, by, now).await;
    let added = added.map_err(refused)?;
    let removed = endpoints::remove_members_in(&mut tx, org, &name, &remove, now).await;
    let removed = removed.map_err(refused)?;
    let details = json!({"added": added, "removed": removed});
    caller.record(&mut tx, format!("label/{name}"), details).await?;
    tx.commit().await?;
    told(state.directory.announce().await);
    Ok(axum::Json(MembersChanged { added, removed }))
}

pub(crate) async fn is_granted_on(state: &ApiState, name: &str) -> Result<bool> {
    let rows = state.catalog.fetch_all(&SCOPES, args![]).await?;
    for row in rows {
        let scope: muster_types::ScopeSpec =
            serde_json::from_str(&row.get::<String>("scope")?).map_err(Problem::internal)?;
        if scope.labels.iter().any(|label| label == name) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn refused(error: LabelError) -> Problem {
    match error {
        LabelError::Name(_) => Problem::invalid("/name", error.to_string()),
        LabelError::Exists(_) => Problem::new(Code::Conflict, error.to_string()),
        LabelError::Unknown(name) => Problem::not_found(format_args!("label {name:?}")),
        LabelError::Catalog(error) => error.into(),
    }
}
