//! Running one query: from the question to a streamed answer and its line in the audit log.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use muster_types::measure::Durations;
use muster_types::{Access, SqlRequest};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument as _;

use super::child::{Child, out_of_time};
use super::encode::{Encoder, Format};
use super::queue::Slot;
use super::{Rows, SqlOptions};
use crate::audit;
use crate::caller::Caller;
use crate::problem::{Code, Problem, Result, chain};
use crate::state::ApiState;

/// Pieces of an answer that may wait for a slow reader.
const PIECES: usize = 4;
/// How long a reader has to take the rest of an answer that is then broken off.
const LAST_PIECES: Duration = Duration::from_secs(30);
/// Names the rows of an answer after which the server would cut it.
const ROWS_MAX: HeaderName = HeaderName::from_static("muster-rows-max");

/// What is asked, by whom, within which limits.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) sql: String,
    pub(crate) access: Access,
    pub(crate) format: Format,
    pub(crate) time: Option<Duration>,
    pub(crate) rows: Rows,
    /// What the audit log names it.
    pub(crate) subject: String,
}

impl Question {
    /// After how many rows it is cut without having been asked to be.
    fn cut_at(&self, options: &SqlOptions) -> Option<u64> {
        match self.rows {
            Rows::All => None,
            Rows::AtMost(rows) if rows <= options.rows => None,
            Rows::AtMost(_) | Rows::Allowed => Some(options.rows),
        }
    }
}

type Pieces = mpsc::Receiver<Result<Bytes, std::io::Error>>;

/// Answers a question as a stream. Returns when the first piece is there or the query is refused;
/// dropping the answer ends the child.
pub(crate) async fn answer(
    state: &ApiState,
    caller: &Caller,
    question: Question,
) -> Result<Response> {
    let format = question.format;
    let cut_at = question.cut_at(&state.sql);
    let account = Some(caller.principal.user_no);
    let pieces = start(state, Some(caller.clone()), account, question).await?;
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(pieces)));
    let kind = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(rows) = cut_at {
        response.headers_mut().insert(ROWS_MAX, HeaderValue::from(rows));
    }
    Ok(response)
}

/// The whole answer in memory, for small ones that this server asks itself; `account` is for whom, if it is for
/// somebody.
pub(crate) async fn collect(
    state: &ApiState,
    account: Option<i64>,
    question: Question,
    bytes_max: usize,
) -> Result<Bytes> {
    let mut pieces = ReceiverStream::new(start(state, None, account, question).await?);
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece.map_err(Problem::internal)?);
        if all.len() > bytes_max {
            return Err(Problem::internal("an answer is larger than foreseen"));
        }
    }
    Ok(all.into())
}

async fn start(
    state: &ApiState,
    caller: Option<Caller>,
    account: Option<i64>,
    question: Question,
) -> Result<Pieces> {
    let (begun, first) = oneshot::channel();
    let (send, pieces) = mpsc::channel(PIECES);
    let job = Job { state: state.clone(), caller, account, question, send };
    let span = tracing::info_span!(target: "muster::span", "sql");
    state.tasks.spawn(job.run(begun).instrument(span));
    // A task that is gone without a word was dropped by the runtime, at shutdown.
    let gone = |_| Problem::unavailable("the server is shutting down", "");
    first.await.map_err(gone)??;
    Ok(pieces)
}

struct Job {
    state: ApiState,
    caller: Option<Caller>,
    account: Option<i64>,
    question: Question,
    send: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

#[derive(Default)]
struct Told {
    rows: u64,
    bytes: u64,
    truncated: bool,
}

impl Job {
    async fn run(self, begun: oneshot::Sender<Result<()>>) {
        let mut told = Told::default();
        let mut begun = Some(begun);
        let shutdown = self.state.shutdown.clone();
        let done = tokio::select! {
            () = shutdown.cancelled() => {
                Err(Problem::unavailable("the server is shutting down", ""))
            }
            done = self.work(&mut begun, &mut told) => done,
        };
        let gone = self.send.is_closed() || begun.as_ref().is_some_and(oneshot::Sender::is_closed);
        self.state.stats().sql.ended(&done, gone);
        let recorded = self.record(&done, &told).await;
        match (begun, done.and(recorded)) {
            (Some(begun), Err(problem)) => drop(begun.send(Err(problem))),
            (None, Err(problem)) => {
                // The status is out: breaking the transfer is the one way left to say so.
                tracing::debug!(code = problem.code().as_str(), "query ended after its first rows");
                // What is broken off too early takes rows with it that are still on their way.
                let taken = self.send.reserve_many(PIECES);
                drop(timeout(LAST_PIECES, taken).await);
                let error = std::io::Error::other(problem.detail().to_owned());
                drop(self.send.send(Err(error)).await);
            }
            (_, Ok(())) => {}
        }
    }

    async fn work(
        &self,
        begun: &mut Option<oneshot::Sender<Result<()>>>,
        told: &mut Told,
    ) -> Result<()> {
        let stats = &self.state.stats().sql;
        let waiting = stats.waiting.during();
        let _slot: Slot = tokio::select! {
            slot = self.state.sql_queue.take(self.account) => slot?,
            () = self.left(begun) => return Err(left()),
        };
        drop(waiting);
        let _running = stats.running.during();
        let _timed = Timed { took: &stats.took, begun: Instant::now() };
        let (options, question) = (&self.state.sql, &self.question);
        let mut limits = options.limits(question.time, question.rows);
        let mut encoder = Encoder::new(question.format, limits.rows);
        let cut_at = question.cut_at(options);
        if question.format != Format::Arrow || cut_at.is_some() {
            limits.rows = limits.rows.saturating_add(1);
        }
        let request = SqlRequest {
            sql: question.sql.clone(),
            access: question.access.clone(),
            limits,
            catalog_url: options.catalog_url.expose_secret().to_owned(),
            archive_url: options.archive_url.clone(),
            archive_access: options.archive_access.clone(),
            now: self.state.clock.now(),
            threads: options.threads,
        };
        let mut child = tokio::select! {
            child = Child::ask(options, &request) => child?,
            () = self.left(begun) => return Err(left()),
        };
        if let Some(begun) = begun.take() {
            drop(begun.send(Ok(())));
        }
        let deadline = child.deadline();
        let done = self.pump(&mut child, &mut encoder, told).await;
        (told.rows, told.truncated) = (encoder.row_count, encoder.truncated);
        if done.is_err() {
            child.kill().await;
            return done;
        }
        child.finish().await?;
        if let (true, Some(rows), false) =
            (encoder.truncated, cut_at, question.format == Format::Json)
        {
            let detail = format!(
                "the answer has more than {rows} rows, where this server cuts (sql.rows); narrow the \
                 question, or say how many rows are wanted"
            );
            return Err(Problem::invalid("/rows", detail));
        }
        let tail = encoder.finish().map_err(|error| Problem::internal(chain(&error)))?;
        self.tell(tail.into(), told, deadline).await
    }

    async fn pump(&self, child: &mut Child, encoder: &mut Encoder, told: &mut Told) -> Result<()> {
        loop {
            let piece = tokio::select! {
                piece = child.next() => piece?,
                () = self.send.closed() => return Err(left()),
            };
            let Some(piece) = piece else { return Ok(()) };
            let out = encoder.push(&piece).map_err(|error| Problem::internal(chain(&error)))?;
            self.tell(out.into(), told, child.deadline()).await?;
        }
    }

    /// Waits for the reader as long as a query may take: a reader that stops would keep the slot for ever.
    async fn tell(&self, out: Bytes, told: &mut Told, deadline: Instant) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let bytes = out.len() as u64;
        let patience = Instant::now() + self.state.sql.time;
        match timeout_at(deadline.min(patience), self.send.send(Ok(out))).await {
            Ok(sent) => sent.map_err(|_| left())?,
            Err(_) => return Err(out_of_time()),
        }
        told.bytes += bytes;
        Ok(())
    }

    /// Waits until the asker has gone away before the answer began.
    async fn left(&self, begun: &mut Option<oneshot::Sender<Result<()>>>) {
        match begun {
            Some(begun) => begun.closed().await,
            None => self.send.closed().await,
        }
    }

    async fn record(&self, done: &Result<()>, told: &Told) -> Result<()> {
        let Some(caller) = &self.caller else { return Ok(()) };
        let outcome = if done.is_ok() { "ok" } else { "failed" };
        let details = json!({
            "query": self.question.sql,
            "scoped": self.question.access.agents.is_some(),
            "rows": told.rows,
            "bytes": told.bytes,
            "truncated": told.truncated,
            "code": done.as_ref().err().map(|problem| problem.code().as_str()),
        });
        let mut tx = self.state.begin().await?;
        let entry = caller.entry(self.question.subject.clone(), outcome, &details);
        audit::append(&mut tx, self.state.instance, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Notes the time when it is dropped.
struct Timed<'a> {
    took: &'a Durations,
    begun: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.took.observe(self.begun.elapsed());
    }
}

fn left() -> Problem {
    Problem::new(Code::Unavailable, "the asker went away")
}
