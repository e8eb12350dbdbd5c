//! Serving them: from memory, else from the archive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use muster_archive::Archive;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{Assets, FILE_BYTES_MAX, kind_of_hashed, object};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;

/// Nobody is signed in who asks for a file, so little is done for them at once: so many looks into the
/// archive,
const LOOKS_MAX: usize = 4;
/// waited for so long,
const LOOK: Duration = Duration::from_secs(10);
/// and so many bytes of other versions' files kept in memory.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Names that were not found, remembered as long as there is room.
const ABSENT_MAX: usize = 256;

/// Everything from here, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of this version, and through the archive those of the others.
#[derive(Debug)]
pub struct AssetServer {
    own: Arc<Assets>,
    archive: Archive,
    looks: Semaphore,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    files: VecDeque<(String, Bytes)>,
    bytes: usize,
    absent: VecDeque<(String, tokio::time::Instant)>,
}

impl AssetServer {
    /// Serves `own`, and what others published to `archive`.
    #[must_use]
    pub fn new(own: Arc<Assets>, archive: Archive) -> Self {
        Self { own, archive, looks: Semaphore::new(LOOKS_MAX), kept: Mutex::default() }
    }

    async fn file(&self, name: &str) -> Result<Bytes> {
        if let Some(bytes) = self.own.get(name) {
            return Ok(bytes.clone());
        }
        if let Some(found) = self.kept.lock().find(name) {
            return found.ok_or_else(absent);
        }
        let look = tokio::time::timeout(LOOK, self.look(name));
        let late = |_| Problem::unavailable("the archive did not answer in time", "");
        let found = look.await.map_err(late)??;
        self.kept.lock().keep(name, found.clone());
        found.ok_or_else(absent)
    }

    async fn look(&self, name: &str) -> Result<Option<Bytes>> {
        let away = |error| Problem::unavailable("the archive cannot be read", error);
        let busy = |_| Problem::unavailable("the server is shutting down", "");
        let _slot = self.looks.acquire().await.map_err(busy)?;
        match self.archive.size(&object(name)).await.map_err(away)? {
            Some(size) if size <= FILE_BYTES_MAX => {}
            _ => return Ok(None),
        }
        match self.archive.get(&object(name)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(muster_archive::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(away(error)),
        }
    }
}

impl Kept {
    /// The file, or that there is none, or nothing about it.
    #[expect(clippy::option_option, reason = "three answers: there, not there, not known")]
    fn find(&mut self, name: &str) -> Option<Option<Bytes>> {
        if let Some((_, bytes)) = self.files.iter().find(|(kept, _)| kept == name) {
            return Some(Some(bytes.clone()));
        }
        let now = tokio::time::Instant::now();
        self.absent.retain(|(_, until)| *until > now);
        self.absent.iter().any(|(kept, _)| kept == name).then_some(None)
    }

    fn keep(&mut self, name: &str, found: Option<Bytes>) {
        let Some(bytes) = found else {
            // A version that is just starting may publish it in a moment.
            let until = tokio::time::Instant::now() + Duration::from_secs(5);
            self.absent.push_back((name.to_owned(), until));
            self.absent.truncate(ABSENT_MAX);
            return;
        };
        self.bytes += bytes.len();
        self.files.push_back((name.to_owned(), bytes));
        while self.bytes > KEPT_BYTES_MAX {
            let Some((_, gone)) = self.files.pop_front() else { break };
            self.bytes -= gone.len();
        }
    }
}

fn absent() -> Problem {
    Problem::new(Code::NotFound, "there is no such file")
}

/// `GET /`.
pub(crate) async fn page(State(state): State<ApiState>) -> Response {
    let page = state.assets.own.page().clone();
    let kind = "text/html; charset=utf-8";
    let mut response = with(page, kind, "no-cache");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
    response
}

/// `GET /assets/{name}`.
pub(crate) async fn file(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Response> {
    let kind = kind_of_hashed(&name).ok_or_else(absent)?;
    let bytes = state.assets.file(&name).await?;
    let mut response = with(bytes, kind, "public, max-age=31536000, immutable");
    // A picture that is opened by itself is a document.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

fn with(bytes: Bytes, kind: &'static str, caching: &'static str) -> Response {
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
