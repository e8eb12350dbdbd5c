//! `/debug-archives`: what instances know of themselves, for whoever has to find a fault.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, header};
use muster_bus::Topic;
use muster_cluster::Instance;
use muster_telemetry::debug::{self, Assembled, NewRequest, SECONDS_MAX};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::caller::Caller;
use crate::extract::{Json, Path};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

/// Most instances of one archive.
const INSTANCES_MAX: usize = 256;

/// What is asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"instances": ["front-1"], "seconds": 10}))]
pub struct NewDebugArchive {
    /// Instances by name or id; empty or missing: all that live.
    #[serde(default)]
    pub instances: Vec<String>,
    /// How long the processor is watched, at most 120 seconds; 0: not at all.
    #[serde(default = "ten")]
    pub seconds: u32,
}

fn ten() -> u32 {
    10
}

/// A debug archive and how far it is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DebugArchive {
    /// Its number.
    pub no: i64,
    /// Who asked for it.
    pub requested_by: String,
    /// When.
    pub requested_at: Time,
    /// How long the processor is watched.
    pub seconds: u32,
    /// After this nobody is waited for.
    pub answer_by: Time,
    /// Whether every instance has answered, or the time is over.
    pub complete: bool,
    /// The instances that were asked.
    pub instances: Vec<DebugPart>,
}

/// The part of one instance.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DebugPart {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `waiting`, `ready`, `failed`, or `missing` when its time is over.
    pub state: String,
    /// Bytes of its part.
    pub byte_count: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Asks instances for a debug archive. Each puts its part into the archive by itself; fetch the whole
/// from `/debug-archives/{no}/content` when it is complete.
#[utoipa::path(post, path = "/debug-archives", operation_id = "debug_archives.create",
    tag = "system", request_body = NewDebugArchive,
    responses((status = CREATED, body = DebugArchive)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewDebugArchive>,
) -> Result<(StatusCode, axum::Json<DebugArchive>)> {
    if new.seconds > SECONDS_MAX {
        return Err(Problem::invalid("seconds", format!("at most {SECONDS_MAX}")));
    }
    let all = muster_cluster::instances(&state.catalog).await?;
    let wanted = choose(all, &new.instances)?;
    let request = NewRequest {
        requested_by: caller.principal.name.clone(),
        seconds: new.seconds,
        wanted: wanted.into_iter().map(|one| (one.info.id, one.info.name)).collect(),
    };
    let mut tx = state.begin().await?;
    let request = debug::create(&mut tx, &request).await.map_err(failed)?;
    let names: Vec<_> = request.wanted.iter().map(|wanted| &wanted.name).collect();
    let details = json!({"instances": names, "seconds": request.seconds});
    caller.record(&mut tx, format!("debug_archive/{}", request.no), details).await?;
    tx.commit().await?;
    state.bus.publish(Topic::Cluster, bytes::Bytes::new());
    let assembled = Assembled { request, parts: Vec::new() };
    Ok((StatusCode::CREATED, axum::Json(view(&state, assembled).await?)))
}

/// The instances that are meant: by name or id, or all that live.
fn choose(all: Vec<Instance>, named: &[String]) -> Result<Vec<Instance>> {
    let is =
        |one: &Instance, name: &str| one.info.name == name || one.info.id.0.to_string() == name;
    for name in named {
        if !all.iter().any(|one| is(one, name)) {
            return Err(Problem::invalid("instances", format!("there is no instance {name}")));
        }
    }
    let meant = |one: &Instance| match named.is_empty() {
        true => one.live,
        false => named.iter().any(|name| is(one, name)),
    };
    let chosen: Vec<Instance> = all.into_iter().filter(meant).collect();
    if chosen.len() > INSTANCES_MAX {
        return Err(Problem::invalid("instances", format!("at most {INSTANCES_MAX}; name some")));
    }
    Ok(chosen)
}

/// How far a debug archive is.
#[utoipa::path(get, path = "/debug-archives/{no}", operation_id = "debug_archives.get",
    tag = "system", params(("no" = i64, Path)), responses((status = OK, body = DebugArchive)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    _: Caller,
    Path(no): Path<i64>,
) -> Result<axum::Json<DebugArchive>> {
    Ok(axum::Json(view(&state, find(&state, no).await?).await?))
}

/// The archive, with the parts that are there; instances without one are named in it.
#[utoipa::path(get, path = "/debug-archives/{no}/content", operation_id = "debug_archives.content",
    tag = "system", params(("no" = i64, Path)),
    responses((status = OK, description = "A `.tar.gz`.", content_type = "application/gzip",
        body = Vec<u8>)))]
pub(crate) async fn content(
    State(state): State<ApiState>,
    _: Caller,
    Path(no): Path<i64>,
) -> Result<Response> {
    let assembled = find(&state, no).await?;
    let bytes = debug::assemble(state.archive.clone(), assembled, state.clock.now());
    let name = format!("attachment; filename=\"muster-debug-{no}.tar.gz\"");
    Response::builder()
        .header(header::CONTENT_TYPE, "application/gzip")
        .header(header::CONTENT_DISPOSITION, name)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Body::from_stream(bytes))
        .map_err(Problem::internal)
}

async fn find(state: &ApiState, no: i64) -> Result<Assembled> {
    let request = debug::get(&state.catalog, no).await.map_err(failed)?;
    let request = request.ok_or_else(|| {
        Problem::not_found(format_args!("debug archive {no}; they are kept for a day"))
    })?;
    let parts = debug::parts(&state.catalog, no).await.map_err(failed)?;
    Ok(Assembled { request, parts })
}

async fn view(state: &ApiState, assembled: Assembled) -> Result<DebugArchive> {
    let over = state.catalog.now().await? >= assembled.request.answer_by;
    let complete = over || assembled.is_complete();
    let instances = assembled.request.wanted.iter().map(|wanted| {
        let part = assembled.parts.iter().find(|part| part.instance == wanted.id);
        let state = match part {
            Some(part) if part.object.is_some() => "ready",
            Some(_) => "failed",
            None if over => "missing",
            None => "waiting",
        };
        DebugPart {
            id: wanted.id.0,
            name: wanted.name.clone(),
            state: state.to_owned(),
            byte_count: part.map_or(0, |part| part.byte_count),
            problem: part.and_then(|part| part.problem.clone()),
        }
    });
    let instances = instances.collect();
    let request = assembled.request;
    Ok(DebugArchive {
        no: request.no,
        requested_by: request.requested_by,
        requested_at: request.requested_at.into(),
        seconds: request.seconds,
        answer_by: request.answer_by.into(),
        complete,
        instances,
    })
}

fn failed(error: debug::Error) -> Problem {
    match error {
        debug::Error::Catalog(error) => error.into(),
        debug::Error::Archive(error) if error.is_retryable() => {
            Problem::new(Code::Unavailable, error.to_string())
        }
        error => Problem::internal(error),
    }
}
