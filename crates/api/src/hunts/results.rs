//! `/hunts/{no}/results`: the rows of a hunt.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use utoipa::IntoParams;

use super::find;
use crate::caller::Caller;
use crate::extract::{Path, Query};
use crate::problem::{Problem, Result};
use crate::sql::{Format, Question, Rows, answer};
use crate::state::ApiState;

const PAGE_MAX: u64 = 10_000;
const PAGE_DEFAULT: u64 = 1_000;

/// Which rows, in which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResultQuery {
    /// `json` (a page), or all rows as `ndjson`, `csv` or `arrow`; else `Accept` decides.
    #[param(inline)]
    format: Option<Format>,
    /// Rows of a page, at most 10000; of the other forms, rows at most.
    limit: Option<u64>,
    /// For a page: behind this place, `_shard._pos._row` of the last row of the page before.
    after: Option<String>,
}

/// The rows of a hunt, of the endpoints the caller may see. With `format=json` a page: each row carries
/// `_shard`, `_pos` and `_row`, and the next page is after the last of them, as long as `truncated`.
#[utoipa::path(get, path = "/hunts/{no}/results", operation_id = "hunts.results", tag = "results",
    params(("no" = u64, Path), ResultQuery),
    responses((status = OK, description = "Rows in the asked form.", content(
        (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        (String = "application/vnd.apache.arrow.stream")))))]
pub(crate) async fn results(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<u64>,
    headers: HeaderMap,
    Query(query): Query<ResultQuery>,
) -> Result<Response> {
    let hunt = find(&state, &caller, no).await?;
    let accept = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = query.format.unwrap_or_else(|| Format::accepted(accept));
    let (sql, rows) = match format {
        Format::Json => {
            let limit = query.limit.unwrap_or(PAGE_DEFAULT);
            if !(1..=PAGE_MAX).contains(&limit) {
                let detail = format!("take 1 to {PAGE_MAX} rows; ndjson gives all");
                return Err(Problem::invalid("limit", detail));
            }
            let sql = page_sql(hunt.no.0, query.after.as_deref(), limit)?;
            (sql, Rows::AtMost(limit))
        }
        _ => {
            (format!("SELECT * FROM hunt_{}", hunt.no), query.limit.map_or(Rows::All, Rows::AtMost))
        }
    };
    let question = Question {
        sql,
        access: caller.access(),
        format,
        time: None,
        rows,
        subject: format!("hunt/{no}"),
    };
    answer(&state, &caller, question).await
}

fn page_sql(no: u64, after: Option<&str>, limit: u64) -> Result<String> {
    let behind = match after {
        None => String::new(),
        Some(cursor) => {
            let [shard, pos, row] = place(cursor).ok_or_else(|| {
                Problem::invalid("after", "this is no place; write _shard._pos._row of a row")
            })?;
            format!(
                " WHERE _shard > {shard} OR (_shard = {shard} AND (_pos > {pos} \
                 OR (_pos = {pos} AND _row > {row})))"
            )
        }
    };
    // One more than the page tells whether another follows.
    let limit = limit + 1;
    Ok(format!(
        "SELECT *, _shard, _pos, _row FROM hunt_{no}{behind} ORDER BY _shard, _pos, _row LIMIT {limit}"
    ))
}

fn place(cursor: &str) -> Option<[u64; 3]> {
    let parts: Vec<u64> = cursor.split('.').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}
