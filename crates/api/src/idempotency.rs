//! `Idempotency-Key`: a change that is asked for twice happens once.
//!
//! The key is reserved before the change and the answer is kept with it for a day. A process that
//! dies in between leaves the key reserved: what became of the change is then not known to us, and
//! we say so rather than do it again.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use muster_catalog::{Priority, Row, args, statements};
use muster_types::Timestamp;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use crate::authorise::Answer;
use crate::caller::Caller;
use crate::length::too_long;
use crate::problem::{self, Code, Problem, Result};
use crate::state::ApiState;

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
const KEY_BYTES_MAX: usize = 128;
/// The body limit of all changes.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Answers above this are not kept; none of ours is that long.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Keys one caller may have within a day.
const KEYS_MAX: i64 = 10_000;
/// Old keys are removed this many at a time, with each new one.
const SWEPT: i64 = 100;
/// Status of a key whose change is not finished.
const RESERVED: i64 = 0;

statements! {
    RESERVE = "
        INSERT INTO idempotency (principal, key, request_hash, status, body, created_at)
        VALUES ($1, $2, $3, 0, $4, $5)
        ON CONFLICT (principal, key) DO NOTHING";
    FIND = "
        SELECT request_hash, status, body FROM idempotency WHERE principal = $1 AND key = $2";
    KEEP = "
        UPDATE idempotency SET status = $3, body = $4 WHERE principal = $1 AND key = $2";
    FORGET = "DELETE FROM idempotency WHERE principal = $1 AND key = $2";
    COUNT = "SELECT COUNT(*) AS n FROM idempotency WHERE principal = $1";
    SWEEP = "
        DELETE FROM idempotency
        WHERE (principal, key) IN (
            SELECT principal, key FROM idempotency
            WHERE created_at < $1
            ORDER BY created_at
            LIMIT $2)";
}

/// Runs a change, or answers as it was answered before.
pub(crate) async fn run(
    state: &ApiState,
    caller: &Caller,
    request: Request,
    next: Next,
) -> Result<Response> {
    let Some(key) = request.headers().get(HEADER) else { return Ok(next.run(request).await) };
    let key = read_key(key)?;
    let (request, hash) = buffered(request).await?;
    let principal = caller.principal.key();
    if !reserve(state, &principal, &key, hash, caller.now()).await? {
        let row = state.catalog.fetch_optional(&FIND, args![principal, key]).await?;
        return replay(row.as_ref(), hash, caller.operation.answer);
    }
    // In a task of its own: a caller that gives up waiting and asks again with the same key then
    // finds the answer, and not a change that was cut off half-way.
    let (state, answer) = (state.clone(), caller.operation.answer);
    let tasks = state.tasks.clone();
    let change = async move {
        let response = next.run(request).await;
        settle(&state, &principal, &key, answer, response).await
    };
    tasks.spawn(change).await.map_err(Problem::internal)?
}

fn read_key(key: &HeaderValue) -> Result<String> {
    key.to_str()
        .ok()
        .filter(|text| (1..=KEY_BYTES_MAX).contains(&text.len()))
        .map(str::to_owned)
        .ok_or_else(|| {
            let detail =
                format!("take 1 to {KEY_BYTES_MAX} visible ASCII characters, such as a UUID");
            Problem::invalid("Idempotency-Key", detail)
        })
}

async fn buffered(request: Request) -> Result<(Request, [u8; 32])> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| too_long())?;
    let mut sha = Sha256::new();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), &body] {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    Ok((Request::from_parts(parts, Body::from(body)), sha.finalize().into()))
}

async fn reserve(
    state: &ApiState,
    principal: &str,
    key: &str,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<bool> {
    let used = state.catalog.fetch_optional(&COUNT, args![principal]).await?;
    if used.map_or(Ok(0), |row| row.get::<i64>("n"))? >= KEYS_MAX {
        let detail = format!("more than {KEYS_MAX} idempotency keys within a day");
        return Err(Problem::new(Code::TooMany, detail).retry_after(3600));
    }
    let mut tx = state.catalog.begin(Priority::Api).await?;
    tx.execute(&SWEEP, args![now.minus(KEPT), SWEPT]).await?;
    let empty: &[u8] = &[];
    let new = tx.execute(&RESERVE, args![principal, key, hash, empty, now]).await?;
    tx.commit().await?;
    Ok(new == 1)
}

fn replay(row: Option<&Row>, hash: [u8; 32], answer: Answer) -> Result<Response> {
    let in_progress = || {
        Problem::new(
            Code::InProgress,
            "a request with this key was begun and has not been answered; look whether it took \
             effect before you use another key",
        )
        .retry_after(1)
    };
    let row = row.ok_or_else(in_progress)?;
    if row.get::<[u8; 32]>("request_hash")? != hash {
        return Err(Problem::new(
            Code::KeyReused,
            "this Idempotency-Key belongs to a different request; take a new key",
        ));
    }
    let status: i64 = row.get("status")?;
    if status == RESERVED {
        return Err(in_progress());
    }
    let status = u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| Problem::internal("a kept status is no status"))?;
    if answer == Answer::Secret && status.is_success() {
        return Err(Problem::new(
            Code::AnswerNotKept,
            "it was done; its answer held a secret, which is shown once and not kept. Revoke or \
             reset it and ask anew with another key",
        ));
    }
    let body: Vec<u8> = row.get("body")?;
    Ok(answered(status, body.into(), true))
}

async fn settle(
    state: &ApiState,
    principal: &str,
    key: &str,
    answer: Answer,
    response: Response,
) -> Result<Response> {
    let status = response.status();
    // What may go better next time is not kept: the same key tries again.
    let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if again {
        state.catalog.execute(Priority::Api, &FORGET, args![principal, key]).await?;
        return Ok(response);
    }
    let problem = response.extensions().get::<Problem>().cloned();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(Problem::internal)?;
    let kept: &[u8] = match answer {
        Answer::Secret if status.is_success() => &[],
        _ => &body,
    };
    let code = i64::from(status.as_u16());
    state.catalog.execute(Priority::Api, &KEEP, args![principal, key, code, kept]).await?;
    let mut response = Response::from_parts(parts, Body::from(body));
    if let Some(problem) = problem {
        response.extensions_mut().insert(problem);
    }
    Ok(response)
}

fn answered(status: StatusCode, body: Bytes, replayed: bool) -> Response {
    // A kept refusal is told again in full, with this request's own id.
    if let Ok(kept) = serde_json::from_slice::<problem::Body>(&body)
        && let Some(code) = Code::ALL.iter().find(|code| code.as_str() == kept.code)
    {
        let problem = Problem::new(*code, kept.detail).with_faults(kept.faults);
        return axum::response::IntoResponse::into_response(problem);
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
