//! The operations on schedules.

use axum::extract::State;
use http::StatusCode;
use muster_catalog::{args, statements};
use muster_schedules as schedules;
use muster_types::{AgentKind, OrgId};
use serde_json::json;

use super::body::{Schedule, ScheduleBody};
use super::refused;
use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Problem, Result};
use crate::scope::SeenLabels;
use crate::state::{ApiState, told};

statements! {
    /// One artifact each.
    OWN = "SELECT yaml FROM artifact WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
}

/// Schedules, by name.
#[utoipa::path(get, path = "/schedules", operation_id = "schedules.list", tag = "schedules",
    params(PageQuery), responses((status = OK, body = Page<Schedule>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Schedule>>> {
    let org = caller.principal.org;
    let all = schedules::schedules(&state.catalog, org).await?;
    let Page { items, next } = query.of_named(all, |one| &one.name)?;
    let labels = SeenLabels::of(&state, &caller.access());
    let mut found = Vec::with_capacity(items.len());
    for mut schedule in items {
        cut(&mut schedule, &labels);
        found.push(view(&state, org, schedule).await?);
    }
    Ok(axum::Json(Page { items: found, next }))
}

/// One schedule.
#[utoipa::path(get, path = "/schedules/{no}", operation_id = "schedules.get", tag = "schedules",
    params(("no" = i64, Path)), responses((status = OK, body = Schedule)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
) -> Result<axum::Json<Schedule>> {
    let org = caller.principal.org;
    let found = schedules::schedule(&state.catalog, org, no).await?;
    let mut found = found.ok_or_else(|| Problem::not_found(format_args!("schedule {no}")))?;
    cut(&mut found, &SeenLabels::of(&state, &caller.access()));
    Ok(axum::Json(view(&state, org, found).await?))
}

/// Makes a schedule. SQL is kept as an artifact of its own.
#[utoipa::path(post, path = "/schedules", operation_id = "schedules.create", tag = "schedules",
    request_body = ScheduleBody, responses((status = CREATED, body = Schedule)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(body): Json<ScheduleBody>,
) -> Result<(StatusCode, axum::Json<Schedule>)> {
    let new = body.new_schedule()?;
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    check_labels(&state, org, new.labels_in.iter().chain(&new.labels_out))?;
    let mut tx = state.begin().await?;
    let made = schedules::create_schedule_in(&mut tx, org, &new, by, now).await.map_err(refused)?;
    let details = json!({"name": made.name, "artifact": made.artifact});
    caller.record(&mut tx, format!("schedule/{}", made.no), details).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok((StatusCode::CREATED, axum::Json(view(&state, org, made).await?)))
}

/// Changes a schedule; what is left out stays.
#[utoipa::path(patch, path = "/schedules/{no}", operation_id = "schedules.change",
    tag = "schedules", params(("no" = i64, Path)), request_body = ScheduleBody,
    responses((status = OK, body = Schedule)))]
pub(crate) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
    Json(body): Json<ScheduleBody>,
) -> Result<axum::Json<Schedule>> {
    let edit = body.edit()?;
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    check_labels(&state, org, edit.labels_in.iter().chain(&edit.labels_out).flatten())?;
    let mut tx = state.begin().await?;
    let changed = schedules::change_schedule_in(&mut tx, org, no, &edit, by, now).await;
    let changed = changed.map_err(refused)?;
    let details = json!({"name": changed.name, "enabled": changed.enabled});
    caller.record(&mut tx, format!("schedule/{no}"), details).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok(axum::Json(view(&state, org, changed).await?))
}

/// Deletes a schedule. What it collected stays.
#[utoipa::path(delete, path = "/schedules/{no}", operation_id = "schedules.delete",
    tag = "schedules", params(("no" = i64, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    let org = caller.principal.org;
    let gone = schedules::delete_schedule_in(&mut tx, org, no, caller.now()).await;
    let gone = gone.map_err(refused)?;
    caller.record(&mut tx, format!("schedule/{no}"), json!({"name": gone.name})).await?;
    tx.commit().await?;
    told(state.schedules.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

/// A label that is not there is a slip of the pen, and `labels_out` would then mean everybody.
fn check_labels<'a>(
    state: &ApiState,
    org: OrgId,
    labels: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    let snapshot = state.directory.snapshot();
    match labels.into_iter().find(|name| snapshot.label(org, name).is_none()) {
        None => Ok(()),
        Some(name) => Err(Problem::invalid("/labels_in", format!("there is no label {name:?}"))),
    }
}

/// Leaves out the labels that the caller may not know of.
fn cut(schedule: &mut schedules::Schedule, labels: &SeenLabels) {
    labels.only(&mut schedule.labels_in);
    labels.only(&mut schedule.labels_out);
}

/// With the SQL of those that were given as such.
async fn view(state: &ApiState, org: OrgId, one: schedules::Schedule) -> Result<Schedule> {
    if !one.own_artifact {
        return Ok(Schedule::of(one, None));
    }
    let row = state.catalog.fetch_optional(&OWN, args![org, &one.artifact]).await?;
    let yaml = row.map(|row| row.get::<String>("yaml")).transpose()?;
    let artifact = yaml.and_then(|yaml| muster_artifact::parse(&yaml).ok());
    let source = artifact.and_then(|mut artifact| artifact.sources.remove(&AgentKind::Osquery));
    Ok(Schedule::of(one, source.map(|source| source.query)))
}
