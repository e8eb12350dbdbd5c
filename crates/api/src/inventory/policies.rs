//! `/policies`: what is checked on every endpoint.

use axum::extract::State;
use http::StatusCode;
use muster_inventory::policy::{self, NewPolicy as Text, PolicyError, PolicyNo};
use muster_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query, nearest};
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::scope::SeenLabels;
use crate::state::{ApiState, told};
use crate::time::Time;

/// A question that every endpoint it applies to answers about once an hour.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Its number, never reused.
    pub no: u32,
    /// Its name.
    pub name: String,
    /// What it checks and why.
    pub description: String,
    /// What to do where it fails.
    pub resolution: String,
    /// Whether a failure is urgent.
    pub critical: bool,
    /// osquery's SQL; it passes with one row or more.
    pub query: String,
    /// `linux`, `darwin`, `windows`; empty: all.
    pub platforms: Vec<String>,
    /// Only endpoints with one of these labels; empty: all.
    pub labels: Vec<String>,
    /// No endpoint with one of these labels.
    pub exclude_labels: Vec<String>,
    /// Whether it is asked.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Time,
    /// By whom.
    pub updated_by: String,
    /// Answers before this were to another question and do not count.
    pub asked_since: Time,
}

/// A policy as a caller may see it who knows of these labels.
fn view(policy: &policy::Policy, labels: &SeenLabels) -> Policy {
    let mut text = policy.text.clone();
    labels.only(&mut text.labels);
    labels.only(&mut text.exclude_labels);
    Policy {
        no: policy.no.0,
        name: text.name,
        description: text.description,
        resolution: text.resolution,
        critical: text.critical,
        query: text.query,
        platforms: text.platforms.iter().map(ToString::to_string).collect(),
        labels: text.labels,
        exclude_labels: text.exclude_labels,
        enabled: text.enabled,
        created_at: policy.created_at.into(),
        created_by: policy.created_by.clone(),
        updated_at: policy.updated_at.into(),
        updated_by: policy.updated_by.clone(),
        asked_since: policy.asked_since.into(),
    }
}

/// A policy to be made, or written anew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicy {
    /// 1 to 200 characters, unique.
    name: String,
    /// osquery's SQL; it passes with one row or more.
    #[schema(example = "SELECT 1 FROM disk_encryption WHERE encrypted = 1")]
    query: String,
    /// What it checks and why.
    #[serde(default)]
    description: String,
    /// What to do where it fails.
    #[serde(default)]
    resolution: String,
    /// Whether a failure is urgent.
    #[serde(default)]
    critical: bool,
    /// `linux`, `darwin`, `windows`; empty: all.
    #[serde(default)]
    platforms: Vec<String>,
    /// Only endpoints with one of these labels; empty: all.
    #[serde(default)]
    labels: Vec<String>,
    /// No endpoint with one of these labels.
    #[serde(default)]
    exclude_labels: Vec<String>,
    /// Whether it is asked; it is, unless this says no.
    enabled: Option<bool>,
}

impl NewPolicy {
    fn read(self, state: &ApiState, caller: &Caller) -> Result<Text> {
        let platforms = self.platforms.iter().enumerate().map(|(n, word)| {
            word.parse().map_err(|message: String| {
                let known = muster_inventory::Platform::ALL.map(|platform| platform.as_str());
                let near = nearest(word, known.into_iter());
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                Problem::invalid(format!("/platforms/{n}"), format!("{message}{hint}"))
            })
        });
        let snapshot = state.directory.snapshot();
        for (at, labels) in [("/labels", &self.labels), ("/exclude_labels", &self.exclude_labels)] {
            for (n, name) in labels.iter().enumerate() {
                if snapshot.label(caller.principal.org, name).is_none() {
                    return Err(Problem::invalid(
                        format!("{at}/{n}"),
                        format!("no label {name:?}"),
                    ));
                }
            }
        }
        Ok(Text {
            platforms: platforms.collect::<Result<_>>()?,
            name: self.name,
            description: self.description,
            resolution: self.resolution,
            critical: self.critical,
            query: self.query,
            labels: self.labels,
            exclude_labels: self.exclude_labels,
            enabled: self.enabled.unwrap_or(true),
        })
    }
}

/// A policy that is there.
pub(super) fn find(
    state: &ApiState,
    caller: &Caller,
    no: u32,
) -> Result<std::sync::Arc<policy::Policy>> {
    let known = state.inventory.policies(caller.principal.org);
    let found = known.into_iter().find(|policy| policy.no.0 == no);
    found.ok_or_else(|| missing(no))
}

fn missing(no: u32) -> Problem {
    Problem::not_found(format_args!("policy {no}"))
}

/// A policy that was just written, also when this instance could not read it back: it may know an earlier text, or
/// none.
fn written(state: &ApiState, caller: &Caller, no: PolicyNo, text: Text, now: Timestamp) -> Policy {
    let (org, by) = (caller.principal.org, &caller.principal.name);
    let known = find(state, caller, no.0).ok();
    let known = known.as_deref();
    let is_same =
        |it: &&policy::Policy| (&it.text.query, it.text.enabled) == (&text.query, text.enabled);
    let policy = policy::Policy {
        no,
        org,
        created_at: known.map_or(now, |it| it.created_at),
        created_by: known.map_or(by, |it| &it.created_by).clone(),
        updated_at: now,
        updated_by: by.clone(),
        asked_since: known.filter(is_same).map_or(now, |it| it.asked_since),
        deleted: false,
        sql: text.query.as_str().into(),
        text,
    };
    view(&policy, &SeenLabels::of(state, &caller.access()))
}

/// Policies, by number.
#[utoipa::path(get, path = "/policies", operation_id = "policies.list", tag = "policies",
    params(PageQuery), responses((status = OK, body = Page<Policy>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Policy>>> {
    let known = state.inventory.policies(caller.principal.org);
    let page = query.of_numbered(known.iter(), |policy| policy.no.0.into())?;
    let labels = SeenLabels::of(&state, &caller.access());
    Ok(axum::Json(page.map(|policy| view(policy, &labels))))
}

/// One policy.
#[utoipa::path(get, path = "/policies/{no}", operation_id = "policies.get", tag = "policies",
    params(("no" = u32, Path)), responses((status = OK, body = Policy)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<axum::Json<Policy>> {
    let labels = SeenLabels::of(&state, &caller.access());
    Ok(axum::Json(view(&*find(&state, &caller, no)?, &labels)))
}

/// Makes a policy. Endpoints are asked within minutes, then about once an hour.
#[utoipa::path(post, path = "/policies", operation_id = "policies.create", tag = "policies",
    request_body = NewPolicy, responses((status = CREATED, body = Policy)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewPolicy>,
) -> Result<(StatusCode, axum::Json<Policy>)> {
    let text = new.read(&state, &caller)?.checked().map_err(refused)?;
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    let details = json!({"name": text.name, "query": text.query});
    let mut tx = state.begin().await?;
    let no = policy::create(&mut tx, org, text.clone(), by, now).await.map_err(refused)?;
    caller.record(&mut tx, format!("policy/{no}"), details).await?;
    tx.commit().await?;
    told(state.inventory.announce().await);
    Ok((StatusCode::CREATED, axum::Json(written(&state, &caller, no, text, now))))
}

/// Writes a policy anew. Another query makes its former answers void.
#[utoipa::path(put, path = "/policies/{no}", operation_id = "policies.change", tag = "policies",
    params(("no" = u32, Path)), request_body = NewPolicy, responses((status = OK, body = Policy)))]
pub(crate) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
    Json(new): Json<NewPolicy>,
) -> Result<axum::Json<Policy>> {
    let text = new.read(&state, &caller)?.checked().map_err(refused)?;
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    let details = json!({"name": text.name, "query": text.query, "enabled": text.enabled});
    let mut tx = state.begin().await?;
    policy::change(&mut tx, org, PolicyNo(no), text.clone(), by, now).await.map_err(refused)?;
    caller.record(&mut tx, format!("policy/{no}"), details).await?;
    tx.commit().await?;
    told(state.inventory.announce().await);
    Ok(axum::Json(written(&state, &caller, PolicyNo(no), text, now)))
}

/// Deletes a policy. Its results stay until their time is over.
#[utoipa::path(delete, path = "/policies/{no}", operation_id = "policies.delete", tag = "policies",
    params(("no" = u32, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u32>,
) -> Result<StatusCode> {
    let (org, now) = (caller.principal.org, caller.now());
    let mut tx = state.begin().await?;
    policy::delete(&mut tx, org, PolicyNo(no), now).await.map_err(refused)?;
    caller.record(&mut tx, format!("policy/{no}"), json!({})).await?;
    tx.commit().await?;
    told(state.inventory.announce().await);
    Ok(StatusCode::NO_CONTENT)
}

fn refused(error: PolicyError) -> Problem {
    match error {
        PolicyError::Invalid { field, problem } => Problem::invalid(format!("/{field}"), problem),
        PolicyError::Exists(_) | PolicyError::TooMany => {
            Problem::new(Code::Conflict, error.to_string())
        }
        PolicyError::Unknown(no) => missing(no.0),
        PolicyError::Catalog(error) => error.into(),
    }
}
