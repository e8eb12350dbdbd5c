//! `/uploads`: files taken from endpoints.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header};
use muster_types::{AgentNo, UploadNo};
use muster_uploads::{self as uploads, Filter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::page::{self, Page};
use crate::problem::{Code, Problem, Result};
use crate::scope;
use crate::state::ApiState;
use crate::time::Time;

/// A file taken from an endpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Upload {
    /// Its number, never reused.
    pub no: u64,
    /// The endpoint it is from, as long as that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<u32>,
    /// The agent that sent it.
    pub agent: u32,
    /// What it is: `carve`.
    pub kind: String,
    /// The agent's own name for it: of a carve, `carve_guid` of the row that asked for it.
    pub external_id: String,
    /// `open` while it comes, `received`, `stored` when it can be read, or `failed`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its length; the agent's account until all of it is there.
    pub byte_count: u64,
    /// SHA-256 of the whole, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What it seems to be: `tar`, `tar.zst` or `bin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// When it began.
    pub begun_at: Time,
    /// When it was stored or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
}

fn view(state: &ApiState, upload: uploads::Upload) -> Upload {
    let agent = state.directory.snapshot().agent(upload.agent).map(|agent| agent.endpoint.0);
    Upload {
        no: upload.no.0,
        endpoint: agent,
        agent: upload.agent.0,
        kind: upload.kind,
        external_id: upload.external_id,
        state: upload.state.to_string(),
        message: upload.message,
        byte_count: upload.byte_count,
        sha256: upload.sha256.map(hex::encode),
        format: upload.format,
        begun_at: upload.begun_at.into(),
        ended_at: upload.ended_at.map(Time::from),
    }
}

/// Which uploads.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Only those of this endpoint.
    endpoint: Option<u32>,
    /// Only those that are `open`, `received`, `stored` or `failed`.
    state: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Uploads, newest first.
#[utoipa::path(get, path = "/uploads", operation_id = "uploads.list", tag = "uploads",
    params(UploadQuery), responses((status = OK, body = Page<Upload>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<UploadQuery>,
) -> Result<axum::Json<Page<Upload>>> {
    let limit = page::limit(query.limit)?;
    let below = page::after_number(query.after.as_deref(), i64::MAX)?;
    let access = caller.access();
    let agents = query.endpoint.map(|no| agents_of(&state, &access, no)).transpose()?;
    let filter = Filter {
        agents,
        state: query.state.map(|word| parse(&word)).transpose()?,
        below: Some(UploadNo(u64::try_from(below).unwrap_or(0))),
        limit,
    };
    let (found, next) = state.uploads.list(&access, &filter).await.map_err(refused)?;
    let items: Vec<_> = found.into_iter().map(|upload| view(&state, upload)).collect();
    caller.note("items", items.len());
    Ok(axum::Json(Page { items, next: next.map(|no| no.to_string()) }))
}

fn agents_of(state: &ApiState, access: &muster_types::Access, no: u32) -> Result<Vec<AgentNo>> {
    let snapshot = state.directory.snapshot();
    Ok(scope::visible(&snapshot, access, no)?.agents.to_vec())
}

fn parse(word: &str) -> Result<uploads::State> {
    word.parse().map_err(|why: String| Problem::invalid("state", why))
}

/// One upload.
#[utoipa::path(get, path = "/uploads/{no}", operation_id = "uploads.get", tag = "uploads",
    params(("no" = u64, Path)), responses((status = OK, body = Upload)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<axum::Json<Upload>> {
    let upload = find(&state, &caller, no).await?;
    Ok(axum::Json(view(&state, upload)))
}

/// The bytes of an upload that is stored. What an endpoint sent is never shown by a browser: it is
/// offered as a file.
#[utoipa::path(get, path = "/uploads/{no}/content", operation_id = "uploads.content",
    tag = "uploads", params(("no" = u64, Path)),
    responses((status = OK, description = "The file.", content_type = "application/octet-stream",
        body = Vec<u8>)))]
pub(crate) async fn content(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
) -> Result<Response> {
    let upload = find(&state, &caller, no).await?;
    let bytes = state.uploads.content(&upload).map_err(refused)?;
    caller.note("byte_count", upload.byte_count);
    let name = format!("attachment; filename=\"{}\"", upload.file_name());
    let mut answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, upload.byte_count)
        .header(header::CONTENT_DISPOSITION, name)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(sha256) = upload.sha256 {
        let digest = format!("sha-256=:{}:", STANDARD.encode(sha256));
        answer = answer.header(HeaderName::from_static("repr-digest"), digest);
    }
    answer.body(Body::from_stream(bytes)).map_err(Problem::internal)
}

async fn find(state: &ApiState, caller: &Caller, no: u64) -> Result<uploads::Upload> {
    let found = state.uploads.get(&caller.access(), UploadNo(no)).await.map_err(refused)?;
    found.ok_or_else(|| Problem::not_found(format_args!("upload {no}")))
}

fn refused(error: uploads::Error) -> Problem {
    match error {
        uploads::Error::Catalog(error) => error.into(),
        uploads::Error::Archive(error) if error.is_retryable() => {
            Problem::unavailable("the store of files is away; try again in a moment", error)
        }
        uploads::Error::NotStored(uploads::State::Failed) => Problem::new(
            Code::Conflict,
            "the upload failed, there is nothing to read; its message says why",
        ),
        uploads::Error::NotStored(_) => Problem::new(
            Code::Conflict,
            "the upload is not complete yet; try again when it is stored",
        ),
        error => Problem::internal(error),
    }
}
