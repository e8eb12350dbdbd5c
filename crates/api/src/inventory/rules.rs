//! `/labels/{name}/rule`: labels whose members are what a SELECT answers.

use axum::extract::State;
use http::StatusCode;
use muster_inventory::rule::{self, Ask as _, AskError, RuleError};
use muster_types::Role;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::ask::RuleSql;
use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::labels::is_granted_on;
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

const EXAMPLES: usize = 20;
/// Endpoints of one change that are named.
const NAMED_MAX: usize = 1_000;

/// The rule a label follows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LabelRule {
    /// The label.
    pub label: String,
    /// One SELECT with a column `endpoint`.
    pub query: String,
    /// The user it is asked as: it finds what they may see.
    pub owner: String,
    /// When the label got a rule.
    pub created_at: Time,
    /// When it was last written anew.
    pub updated_at: Time,
    /// When it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_at: Option<Time>,
    /// When its members last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// Why it has no answer; its members stay as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Time>,
}

fn view(rule: rule::Rule) -> LabelRule {
    LabelRule {
        label: rule.label,
        query: rule.query,
        owner: rule.owner,
        created_at: rule.created_at.into(),
        updated_at: rule.updated_at.into(),
        evaluated_at: rule.evaluated_at.map(Time::from),
        changed_at: rule.changed_at.map(Time::from),
        error: rule.error,
        failing_since: rule.failing_since.map(Time::from),
    }
}

async fn find(state: &ApiState, caller: &Caller, name: &str) -> Result<rule::Rule> {
    let found = rule::find(&state.catalog, caller.principal.org, name).await?;
    found.ok_or_else(|| Problem::not_found(format_args!("rule of a label {name:?}")))
}

/// The rule of a label.
#[utoipa::path(get, path = "/labels/{name}/rule", operation_id = "labels.rule", tag = "labels",
    params(("name" = String, Path)), responses((status = OK, body = LabelRule)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<LabelRule>> {
    Ok(axum::Json(view(find(&state, &caller, &name).await?)))
}

/// A rule to be followed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// One SELECT with a column `endpoint`, over everything `POST /sql` knows.
    #[schema(example = "SELECT endpoint FROM software WHERE name = 'openssl'")]
    query: String,
}

/// Makes a label follow a rule: from now on its members are what the query answers, asked anew every
/// minute as the caller. A label that roles are granted on decides who sees what, so it takes an
/// administrator.
#[utoipa::path(put, path = "/labels/{name}/rule", operation_id = "labels.rule.set", tag = "labels",
    params(("name" = String, Path)), request_body = NewRule,
    responses((status = OK, body = LabelRule)))]
pub(crate) async fn set(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Json(new): Json<NewRule>,
) -> Result<axum::Json<LabelRule>> {
    let principal = &caller.principal;
    if !principal.holds_everywhere(Role::Administrator) && is_granted_on(&state, &name).await? {
        let detail = format!("roles are granted on {name:?}, so only an administrator changes it");
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let owner = (principal.user_no, principal.name.as_str());
    let mut tx = state.begin().await?;
    rule::set(&mut tx, principal.org, &name, &new.query, owner, caller.now())
        .await
        .map_err(refused)?;
    caller.record(&mut tx, format!("label/{name}"), json!({"query": new.query})).await?;
    tx.commit().await?;
    // Wakes whoever evaluates rules.
    state.bus.publish(muster_bus::Topic::Inventory, bytes::Bytes::new());
    Ok(axum::Json(view(find(&state, &caller, &name).await?)))
}

/// Ends a rule: the label keeps its members and is changed by hand again.
#[utoipa::path(delete, path = "/labels/{name}/rule", operation_id = "labels.rule.remove",
    tag = "labels", params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    rule::remove(&mut tx, caller.principal.org, &name).await.map_err(refused)?;
    caller.record(&mut tx, format!("label/{name}"), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A rule to be tried.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTrial {
    /// One SELECT with a column `endpoint`.
    query: String,
    /// A label, to see who would come and go.
    label: Option<String>,
}

/// What a rule would do now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RulePreview {
    /// How many endpoints it means.
    pub endpoint_count: u64,
    /// Some of them, by number.
    pub examples: Vec<NamedEndpoint>,
    /// How many the label would gain.
    pub added: u64,
    /// How many it would lose.
    pub removed: u64,
}

/// An endpoint by number and name.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NamedEndpoint {
    /// Its number.
    pub no: u32,
    /// Its name, as long as it is there.
    pub name: String,
}

/// Asks a rule once, as the caller, and changes nothing.
#[utoipa::path(post, path = "/label-rules/preview", operation_id = "labels.rule.preview",
    tag = "labels", request_body = RuleTrial, responses((status = OK, body = RulePreview)))]
pub(crate) async fn preview(
    State(state): State<ApiState>,
    caller: Caller,
    Json(trial): Json<RuleTrial>,
) -> Result<axum::Json<RulePreview>> {
    let query = rule::checked(&trial.query).map_err(refused)?;
    let ask = RuleSql::new(state.clone());
    let org = caller.principal.org;
    let access = ask.access(org, caller.principal.user_no).await.map_err(unanswered)?;
    let snapshot = state.directory.snapshot();
    let label = match &trial.label {
        None => None,
        Some(name) => {
            let missing = || Problem::not_found(format_args!("label {name:?}"));
            Some(snapshot.label(org, name).ok_or_else(missing)?)
        }
    };
    caller.note("query", query);
    let mut sets = rule::members(&ask, &snapshot, &access, &[query]).await;
    let set = sets.pop().ok_or_else(|| Problem::internal("no answer"))?.map_err(unanswered)?;
    let before = label.map(|label| label.members.clone()).unwrap_or_default();
    Ok(axum::Json(RulePreview {
        endpoint_count: set.len(),
        examples: named(&snapshot, &set, EXAMPLES),
        added: (&set - &before).len(),
        removed: (&before - &set).len(),
    }))
}

/// Who came and went at once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RuleChange {
    /// Names the change; falling in the list.
    pub change: i64,
    /// When.
    pub at: Time,
    /// How many came.
    pub added_count: u64,
    /// How many went.
    pub removed_count: u64,
    /// How many carried it since.
    pub member_count: u64,
    /// Who came, the first thousand.
    pub added: Vec<NamedEndpoint>,
    /// Who went, the first thousand.
    pub removed: Vec<NamedEndpoint>,
}

/// What a label's rule changed, newest first; kept for a year.
#[utoipa::path(get, path = "/labels/{name}/rule/history", operation_id = "labels.rule.history",
    tag = "labels", params(("name" = String, Path), PageQuery),
    responses((status = OK, body = Page<RuleChange>)))]
pub(crate) async fn history(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<RuleChange>>> {
    let (limit, before) = (query.limit()?, query.after_number(i64::MAX)?);
    let snapshot = state.directory.snapshot();
    let label = snapshot.label(caller.principal.org, &name);
    let label = label.ok_or_else(|| Problem::not_found(format_args!("label {name:?}")))?;
    let changes = rule::history(&state.catalog, label.no, before, limit + 1).await?;
    let view = |change: rule::RuleChange| RuleChange {
        change: change.change,
        at: change.at.into(),
        added_count: change.added.len(),
        removed_count: change.removed.len(),
        member_count: change.member_count,
        added: named(&snapshot, &change.added, NAMED_MAX),
        removed: named(&snapshot, &change.removed, NAMED_MAX),
    };
    let items = changes.into_iter().map(view).collect();
    Ok(axum::Json(Page::cut(items, limit, |change: &RuleChange| change.change.to_string())))
}

fn named(
    snapshot: &muster_endpoints::Snapshot,
    set: &roaring::RoaringBitmap,
    max: usize,
) -> Vec<NamedEndpoint> {
    let one = |no: u32| {
        let endpoint = snapshot.endpoint(muster_types::EndpointNo(no));
        NamedEndpoint { no, name: endpoint.map(|e| e.name.to_string()).unwrap_or_default() }
    };
    set.iter().take(max).map(one).collect()
}

fn refused(error: RuleError) -> Problem {
    match error {
        RuleError::Query(problem) => Problem::invalid("/query", problem),
        RuleError::Unknown(_) => Problem::new(Code::NotFound, error.to_string()),
        RuleError::TooMany => Problem::new(Code::Conflict, error.to_string()),
        RuleError::Catalog(error) => error.into(),
    }
}

fn unanswered(error: AskError) -> Problem {
    match error {
        AskError::Query(words) => Problem::new(Code::InvalidQuery, words),
        AskError::Owner(words) => Problem::new(Code::Forbidden, words),
        AskError::Unavailable(words) => Problem::unavailable("the rule could not be asked", words),
    }
}
