//! `Idempotency-Key`: a change that is asked for twice happens once.
//!
//! The key is reserved before the change, marked in the change's own transaction, and the answer is
//! kept with it for a day. So whatever becomes of the process, of a commit whose answer was lost, or of
//! the answer itself: a key that is marked stands for a change that was made, and one that is not for
//! one that was not made. A reservation that nobody came back to is taken over; whoever held it
//! finds that when it marks, and then its transaction fails.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use muster_catalog::{Priority, Row, Tx, args, statements};
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
/// Status of a key whose change is not made.
const RESERVED: i64 = 0;
/// Status of a key whose change is made, with what it was about in the place of the answer, which is on
/// its way.
const MADE: i64 = 1;
/// Status of a key whose change is made, and whose answer will not come any more.
const LOST: i64 = 2;
/// No change takes so long: whoever has said nothing for this time is not there any more.
const GONE_AFTER: Duration = Duration::from_secs(30);

statements! {
    RESERVE = "
        INSERT INTO idempotency (principal, key, request_hash, status, body, created_at)
        VALUES ($1, $2, $3, 0, $4, $5)
        ON CONFLICT (principal, key) DO NOTHING";
    FIND = "
        SELECT request_hash, status, body, created_at FROM idempotency
        WHERE principal = $1 AND key = $2";
    TAKE_OVER = "
        UPDATE idempotency SET created_at = $4
        WHERE principal = $1 AND key = $2 AND created_at = $3 AND status = 0";
    MAKE = "
        UPDATE idempotency SET status = 1, body = $4
        WHERE principal = $1 AND key = $2 AND created_at = $3 AND status <= 1";
    LOSE = "
        UPDATE idempotency SET status = 2
        WHERE principal = $1 AND key = $2 AND created_at = $3 AND status = 1";
    KEEP = "
        UPDATE idempotency SET status = $4, body = $5
        WHERE principal = $1 AND key = $2 AND created_at = $3";
    FORGET = "
        DELETE FROM idempotency
        WHERE principal = $1 AND key = $2 AND created_at = $3 AND status = 0";
    COUNT = "SELECT COUNT(*) AS n FROM idempotency WHERE principal = $1";
    SWEEP = "
        DELETE FROM idempotency
        WHERE (principal, key) IN (
            SELECT principal, key FROM idempotency
            WHERE created_at < $1
            ORDER BY created_at
            LIMIT $2)";
}

/// A key that this request holds, since `at`: that tells it from whoever takes it over.
#[derive(Clone, Debug)]
pub(crate) struct Reserved {
    principal: String,
    key: String,
    hash: [u8; 32],
    at: Timestamp,
}

impl Reserved {
    /// Marks it within the transaction of the change.
    ///
    /// # Errors
    /// When it is somebody else's by now: then nothing may be changed.
    pub(crate) async fn mark(&self, tx: &mut Tx, subject: &str) -> Result<()> {
        let values = args![&*self.principal, &*self.key, self.at, subject.as_bytes()];
        match tx.execute(&MAKE, values).await? {
            0 => Err(in_progress()),
            _ => Ok(()),
        }
    }

    /// Whether it is this request's now: nobody has used it, or whoever reserved it is gone.
    async fn reserve(&self, state: &ApiState) -> Result<bool> {
        let (principal, key) = (&*self.principal, &*self.key);
        let used = state.catalog.fetch_optional(&COUNT, args![principal]).await?;
        if used.map_or(Ok(0), |row| row.get::<i64>("n"))? >= KEYS_MAX {
            let detail = format!("more than {KEYS_MAX} idempotency keys within a day");
            return Err(Problem::new(Code::TooMany, detail).retry_after(3600));
        }
        let mut tx = state.catalog.begin(Priority::Api).await?;
        tx.execute(&SWEEP, args![self.at.minus(KEPT), SWEPT]).await?;
        let empty: &[u8] = &[];
        let new = tx.execute(&RESERVE, args![principal, key, self.hash, empty, self.at]).await?;
        if let Err(error) = tx.commit().await {
            if new == 1 {
                // It may be reserved in spite of that; then whoever asks again need not wait.
                let _ = self.forget(state).await;
            }
            return Err(error.into());
        }
        if new == 1 {
            return Ok(true);
        }
        let Some(row) = self.find(state).await? else { return Ok(false) };
        let held_since: Timestamp = row.get("created_at")?;
        let is_left = row.get::<i64>("status")? == RESERVED
            && row.get::<[u8; 32]>("request_hash")? == self.hash
            && self.at.since(held_since) > GONE_AFTER;
        let values = args![principal, key, held_since, self.at];
        Ok(is_left && state.catalog.execute(Priority::Api, &TAKE_OVER, values).await? == 1)
    }

    async fn find(&self, state: &ApiState) -> Result<Option<Row>> {
        let values = args![&*self.principal, &*self.key];
        Ok(state.catalog.fetch_optional(&FIND, values).await?)
    }

    /// Forgets it unless its change was made; whether it is forgotten.
    async fn forget(&self, state: &ApiState) -> Result<bool> {
        let values = args![&*self.principal, &*self.key, self.at];
        Ok(state.catalog.execute(Priority::Api, &FORGET, values).await? == 1)
    }

    /// What becomes of a request that failed in a way that may go better: the same key tries again,
    /// but not when the change was made and only its answer was lost.
    async fn failed(&self, state: &ApiState, answer: Answer) -> Result<Option<Response>> {
        if self.forget(state).await? {
            return Ok(None);
        }
        let values = args![&*self.principal, &*self.key, self.at];
        state.catalog.execute(Priority::Api, &LOSE, values).await?;
        replay(self.find(state).await?.as_ref(), self, answer).map(Some)
    }

    async fn keep(&self, state: &ApiState, status: StatusCode, body: &[u8]) -> Result<()> {
        let status = i64::from(status.as_u16());
        let values = args![&*self.principal, &*self.key, self.at, status, body];
        state.catalog.execute(Priority::Api, &KEEP, values).await?;
        Ok(())
    }
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
    let (mut request, hash) = buffered(request).await?;
    let principal = caller.principal.key();
    let reserved = Reserved { principal, key, hash, at: caller.now() };
    let answer = caller.operation.answer;
    if !reserved.reserve(state).await? {
        return replay(reserved.find(state).await?.as_ref(), &reserved, answer);
    }
    request.extensions_mut().insert(caller.clone().holding(reserved.clone()));
    // In a task of its own: a caller that gives up waiting and asks again with the same key then
    // finds the answer, and not a change that was cut off half-way.
    let state = state.clone();
    let tasks = state.tasks.clone();
    let change = async move {
        let response = next.run(request).await;
        settle(&state, &reserved, answer, response).await
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

fn in_progress() -> Problem {
    let detail =
        "a request with this key was begun and has not been answered; ask again in a moment";
    Problem::new(Code::InProgress, detail).retry_after(1)
}

fn replay(row: Option<&Row>, asked: &Reserved, answer: Answer) -> Result<Response> {
    let row = row.ok_or_else(in_progress)?;
    if row.get::<[u8; 32]>("request_hash")? != asked.hash {
        return Err(Problem::new(
            Code::KeyReused,
            "this Idempotency-Key belongs to a different request; take a new key",
        ));
    }
    let status: i64 = row.get("status")?;
    let age = asked.at.since(row.get("created_at")?);
    if status == RESERVED || (status == MADE && age <= GONE_AFTER) {
        return Err(in_progress());
    }
    if matches!(status, MADE | LOST) {
        let body: Vec<u8> = row.get("body")?;
        let subject = String::from_utf8_lossy(&body);
        let secret = match answer {
            Answer::Plain => "",
            Answer::Secret => ", and the secret in it; revoke or reset that",
        };
        let detail = format!("it was done ({subject}); the answer was lost on its way{secret}");
        return Err(Problem::new(Code::AnswerNotKept, detail));
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
    reserved: &Reserved,
    answer: Answer,
    response: Response,
) -> Result<Response> {
    let status = response.status();
    // What may go better next time is not kept: the same key tries again.
    let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if again {
        return match reserved.failed(state, answer).await {
            Ok(known) => Ok(known.unwrap_or(response)),
            Err(problem) if problem.code() == Code::AnswerNotKept => Err(problem),
            // Not known now; whoever asks again is told.
            Err(_) => Ok(response),
        };
    }
    let problem = response.extensions().get::<Problem>().cloned();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(Problem::internal)?;
    let kept: &[u8] = match answer {
        Answer::Secret if status.is_success() => &[],
        _ => &body,
    };
    if let Err(problem) = reserved.keep(state, status, kept).await {
        // It is the truth all the same, and a repeat finds that the change was made or was not.
        tracing::warn!(code = problem.code().as_str(), "an answer could not be kept for repeats");
    }
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
