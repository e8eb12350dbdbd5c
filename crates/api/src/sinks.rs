//! `/sinks`: where rows are sent besides the archive.

use axum::extract::State;
use http::StatusCode;
use muster_sinks::{Batch, Destination, Filter, NewSink as New, Refusal, Status};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

/// A sink and how it fares; its secret is never shown.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Where to.
    pub destination: Destination,
    /// Which rows.
    pub filter: Filter,
    /// How much at once.
    pub batch: Batch,
    /// Whether it has a secret.
    pub has_secret: bool,
    /// `active`, `failing` (its destination took nothing the last time) or `paused`.
    pub state: String,
    /// Rows of its tables that wait; some of them may turn out to be of other labels.
    pub lag_rows: u64,
    /// Rows that the destination took.
    pub delivered_rows: i64,
    /// Rows of its tables that were of other labels, or deleted.
    pub filtered_rows: i64,
    /// Rows that the destination refuses for ever; see `/sinks/{name}/refused`.
    pub refused_rows: i64,
    /// Rows that retention or a deletion removed before their turn came.
    pub gone_rows: i64,
    /// When rows were last taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Time>,
    /// When the latest row that was taken had been received by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_until: Option<Time>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_at: Option<Time>,
    /// How often in a row.
    pub failures: u32,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// When it was made; rows committed before are none of its.
    pub created_at: Time,
    /// By whom.
    pub created_by: String,
}

impl From<Status> for Sink {
    fn from(status: Status) -> Self {
        let Status { sink, progress, lag_rows } = status;
        let state = match (sink.paused, progress.failures) {
            (true, _) => "paused",
            (false, 0) => "active",
            (false, _) => "failing",
        };
        Self {
            name: sink.name,
            destination: sink.destination,
            filter: sink.filter,
            batch: sink.batch,
            has_secret: sink.has_secret,
            state: state.to_owned(),
            lag_rows,
            delivered_rows: progress.delivered_rows,
            filtered_rows: progress.filtered_rows,
            refused_rows: progress.refused_rows,
            gone_rows: progress.gone_rows,
            delivered_at: progress.delivered_at.map(Time::from),
            received_until: progress.received_until.map(Time::from),
            error: progress.error,
            error_at: progress.error_at.map(Time::from),
            failures: progress.failures,
            retry_at: progress.retry_at.map(Time::from),
            created_at: sink.created_at.into(),
            created_by: sink.created_by,
        }
    }
}

/// Sinks, by name.
#[utoipa::path(get, path = "/sinks", operation_id = "sinks.list", tag = "sinks",
    params(PageQuery), responses((status = OK, body = Page<Sink>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Sink>>> {
    let sinks = state.sinks.list(caller.principal.org).await.map_err(failed)?;
    Ok(axum::Json(query.of_named(sinks, |status| &status.sink.name)?.map(Sink::from)))
}

/// One sink.
#[utoipa::path(get, path = "/sinks/{name}", operation_id = "sinks.get", tag = "sinks",
    params(("name" = String, Path)), responses((status = OK, body = Sink)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<Sink>> {
    Ok(axum::Json(find(&state, &caller, &name).await?.into()))
}

/// A sink to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSink {
    /// 1 to 64 letters, digits, `.`, `_` and `-`.
    name: String,
    /// Where to.
    destination: Destination,
    /// Which rows.
    #[serde(default)]
    filter: Filter,
    /// How much at once.
    #[serde(default)]
    batch: Batch,
    /// Token, API key or password; kept sealed and never shown.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
}

/// Makes a sink. It begins with the rows that are committed from now on.
#[utoipa::path(post, path = "/sinks", operation_id = "sinks.create", tag = "sinks",
    request_body = NewSink, responses((status = CREATED, body = Sink)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewSink>,
) -> Result<(StatusCode, axum::Json<Sink>)> {
    let NewSink { name, destination, filter, batch, secret } = new;
    let new = New { name, destination, filter, batch, secret };
    let (org, by, now) = (caller.principal.org, &caller.principal.name, caller.now());
    let mut tx = state.begin().await?;
    let sink = state.sinks.create_in(&mut tx, org, &new, by, now).await.map_err(refused)?;
    let details = json!({
        "destination": audited(&sink.destination), "filter": sink.filter, "secret": sink.has_secret,
    });
    caller.record(&mut tx, subject(&sink.name), details).await?;
    tx.commit().await?;
    let made = find(&state, &caller, &sink.name).await?;
    Ok((StatusCode::CREATED, axum::Json(made.into())))
}

/// A destination as the audit log keeps it for ever: of its URL, which may hold a secret in its path or
/// query, only where it leads.
fn audited(destination: &Destination) -> serde_json::Value {
    let mut shown = json!(destination);
    if let Some(url) = shown.get_mut("url")
        && let Some((scheme, rest)) = url.as_str().and_then(|url| url.split_once("://"))
    {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        *url = format!("{scheme}://{host}/…").into();
    }
    shown
}

/// Stops a sink; it goes on from where it is when it is resumed, as far as retention has left rows.
#[utoipa::path(post, path = "/sinks/{name}/pause", operation_id = "sinks.pause", tag = "sinks",
    params(("name" = String, Path)), responses((status = OK, body = Sink)))]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<Sink>> {
    set_paused(state, caller, name, true).await
}

/// Lets a sink go on.
#[utoipa::path(post, path = "/sinks/{name}/resume", operation_id = "sinks.resume", tag = "sinks",
    params(("name" = String, Path)), responses((status = OK, body = Sink)))]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<Sink>> {
    set_paused(state, caller, name, false).await
}

async fn set_paused(
    state: ApiState,
    caller: Caller,
    name: String,
    paused: bool,
) -> Result<axum::Json<Sink>> {
    let mut tx = state.begin().await?;
    if !state.sinks.set_paused_in(&mut tx, caller.principal.org, &name, paused).await? {
        return Err(missing(&name));
    }
    caller.record(&mut tx, subject(&name), json!({})).await?;
    tx.commit().await?;
    Ok(axum::Json(find(&state, &caller, &name).await?.into()))
}

/// Removes a sink and what is known of it; what it sent stays where it is.
#[utoipa::path(delete, path = "/sinks/{name}", operation_id = "sinks.delete", tag = "sinks",
    params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    if !state.sinks.remove_in(&mut tx, caller.principal.org, &name).await? {
        return Err(missing(&name));
    }
    caller.record(&mut tx, subject(&name), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What became of a test.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SinkTest {
    /// The destination took the event.
    pub taken: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Sends one event that tells of nothing, from the instance that answers, and waits for what the
/// destination says. Of a file only whether it can be written to is looked at.
#[utoipa::path(post, path = "/sinks/{name}/test", operation_id = "sinks.test", tag = "sinks",
    params(("name" = String, Path)), responses((status = OK, body = SinkTest)))]
pub(crate) async fn test(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<SinkTest>> {
    let found = find(&state, &caller, &name).await?;
    let error = state.sinks.test(&found.sink).await.map_err(failed)?.err();
    let mut tx = state.begin().await?;
    caller.record(&mut tx, subject(&name), json!({"taken": error.is_none()})).await?;
    tx.commit().await?;
    Ok(axum::Json(SinkTest { taken: error.is_none(), error }))
}

/// A row that a destination refused for ever.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusedSinkRow {
    /// When.
    pub at: Time,
    /// Its id, as in the envelope.
    pub id: String,
    /// Why, in the destination's words.
    pub reason: String,
}

/// The rows that a sink's destination refused for ever, newest first; about a thousand are kept.
#[utoipa::path(get, path = "/sinks/{name}/refused", operation_id = "sinks.refused", tag = "sinks",
    params(("name" = String, Path)), responses((status = OK, body = Page<RefusedSinkRow>)))]
pub(crate) async fn refused_rows(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<Page<RefusedSinkRow>>> {
    let found = find(&state, &caller, &name).await?;
    let rows = state.sinks.refused(&found.sink, 1000).await.map_err(failed)?;
    let view = |row: muster_sinks::RefusedRow| RefusedSinkRow {
        at: row.at.into(),
        id: row.id,
        reason: row.reason,
    };
    Ok(axum::Json(Page::whole(rows.into_iter().map(view).collect())))
}

async fn find(state: &ApiState, caller: &Caller, name: &str) -> Result<Status> {
    let found = state.sinks.find(caller.principal.org, name).await.map_err(failed)?;
    found.ok_or_else(|| missing(name))
}

fn subject(name: &str) -> String {
    format!("sink/{name}")
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format_args!("sink {name:?}"))
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Invalid { at, message } => Problem::invalid(at, message),
        Refusal::Catalog(error) => error.into(),
        refusal => Problem::new(Code::Conflict, refusal.to_string()),
    }
}

fn failed(error: muster_sinks::Error) -> Problem {
    match error {
        muster_sinks::Error::Catalog(error) => error.into(),
        error => Problem::internal(crate::problem::chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_log_keeps_no_secret_of_a_url() {
        let destination: Destination = serde_json::from_value(json!({
            "kind": "webhook", "url": "https://ana:pw@hooks.example.com:8443/T0/s3cret?token=x",
        }))
        .unwrap();
        assert_eq!(audited(&destination)["url"], "https://hooks.example.com:8443/…");
    }
}
