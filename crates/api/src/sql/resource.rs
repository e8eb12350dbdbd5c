//! `POST /sql`.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, header};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Format, Question, answer};
use crate::caller::Caller;
use crate::extract::{Json, Query};
use crate::problem::{Problem, Result};
use crate::state::ApiState;

const TEXT_MAX: usize = 256 * 1024;

/// A question over results and the catalog.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlQuestion {
    /// One SELECT (or WITH, EXPLAIN, SHOW TABLES, DESCRIBE).
    #[schema(example = "SELECT name, COUNT(*) AS n FROM linux_processes GROUP BY name ORDER BY n")]
    sql: String,
    /// At most so many rows. Without it, or with more than the server allows, an answer that is longer than the
    /// server allows is broken off (as `json`: is `truncated`), so that it is not taken for a whole one.
    rows: Option<u64>,
    /// At most so long.
    timeout_seconds: Option<u64>,
}

/// The form of the answer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FormatQuery {
    /// `json`, `ndjson`, `csv` or `arrow`; else `Accept` decides.
    #[param(inline)]
    pub(crate) format: Option<Format>,
}

impl FormatQuery {
    pub(crate) fn choose(&self, headers: &HeaderMap) -> Format {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        self.format.unwrap_or_else(|| Format::accepted(accept))
    }
}

/// Asks with SQL over all results and the catalog, within the caller's scope. The rows are streamed;
/// closing the connection ends the query. A query that fails after its first rows breaks the transfer.
#[utoipa::path(post, path = "/sql", operation_id = "sql", tag = "results",
    params(FormatQuery), request_body = SqlQuestion,
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn run(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Query(form): Query<FormatQuery>,
    Json(question): Json<SqlQuestion>,
) -> Result<Response> {
    if question.sql.len() > TEXT_MAX {
        return Err(Problem::invalid("/sql", format!("the text is longer than {TEXT_MAX} bytes")));
    }
    if question.sql.trim().is_empty() {
        return Err(Problem::invalid("/sql", "write one SELECT, for example SHOW TABLES"));
    }
    let question = Question {
        sql: question.sql,
        access: caller.access(),
        format: form.choose(&headers),
        time: question.timeout_seconds.map(Duration::from_secs),
        rows: question.rows.into(),
        subject: "sql".into(),
    };
    answer(&state, &caller, question).await
}
