//! Lists of hunts, and the history of questions.

use axum::extract::State;
use muster_catalog::{args, statements};
use muster_types::{HuntNo, OrgId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::{self, Hunt};
use crate::caller::Caller;
use crate::extract::Query;
use crate::page::{self, Page};
use crate::problem::Result;
use crate::state::ApiState;

statements! {
    LIST = "
        SELECT no
        FROM hunt
        WHERE org = $1
          AND no < $2
          AND deleted_at IS NULL
          AND (CAST($3 AS TEXT) IS NULL OR kind = $3)
          AND (CAST($4 AS TEXT) IS NULL OR state = $4)
          AND (CAST($5 AS TEXT) IS NULL OR requested_by = $5)
          AND (CAST($6 AS TEXT) IS NULL
               OR LOWER(title) LIKE $6 ESCAPE '!'
               OR LOWER(artifact) LIKE $6 ESCAPE '!'
               OR LOWER(definition) LIKE $6 ESCAPE '!'
               OR LOWER(reason) LIKE $6 ESCAPE '!')
        ORDER BY no DESC
        LIMIT $7";
}

/// Which hunts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HuntQuery {
    /// `hunt`, `live` or `collection`.
    kind: Option<String>,
    /// Only those in this state.
    state: Option<String>,
    /// Only those that this user asked.
    requested_by: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Hunts, newest first. `kind=hunt` leaves out live queries and collections.
#[utoipa::path(get, path = "/hunts", operation_id = "hunts.list", tag = "hunts",
    params(HuntQuery), responses((status = OK, body = Page<Hunt>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<HuntQuery>,
) -> Result<axum::Json<Page<Hunt>>> {
    let filter = Filter {
        kind: query.kind,
        state: query.state,
        requested_by: query.requested_by,
        word: None,
    };
    read(&state, &caller, filter, query.limit, query.after.as_deref()).await
}

/// Which past questions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Everybody's, not only one's own.
    #[serde(default)]
    all: bool,
    /// A word of the query, artifact, title or reason.
    search: Option<String>,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Past questions of all kinds, newest first. Their rows are still there as long as they are kept.
#[utoipa::path(get, path = "/history", operation_id = "history.list", tag = "hunts",
    params(HistoryQuery), responses((status = OK, body = Page<Hunt>)))]
pub(crate) async fn history(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<HistoryQuery>,
) -> Result<axum::Json<Page<Hunt>>> {
    let own = (!query.all).then(|| caller.principal.name.clone());
    let filter =
        Filter { kind: None, state: None, requested_by: own, word: query.search.map(|w| like(&w)) };
    read(&state, &caller, filter, query.limit, query.after.as_deref()).await
}

struct Filter {
    kind: Option<String>,
    state: Option<String>,
    requested_by: Option<String>,
    word: Option<String>,
}

async fn read(
    state: &ApiState,
    caller: &Caller,
    filter: Filter,
    limit: Option<u32>,
    after: Option<&str>,
) -> Result<axum::Json<Page<Hunt>>> {
    let limit = page::limit(limit)?;
    let before = page::after_number(after, i64::MAX)?;
    let org: OrgId = caller.principal.org;
    let Filter { kind, state: word, requested_by, word: pattern } = filter;
    let args = args![org, before, kind, word, requested_by, pattern, limit + 1];
    let rows = state.catalog.fetch_all(&LIST, args).await?;
    let access = caller.access();
    let mut hunts = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(def) = state.hunts.get(row.get::<HuntNo>("no")?).await? {
            hunts.push(view::hunt(&def, caller, &access));
        }
    }
    let page = Page::cut(hunts, limit, |hunt: &Hunt| hunt.no.to_string());
    caller.note("items", page.items.len());
    Ok(axum::Json(page))
}

/// A pattern that finds the word as it is written, whatever it holds.
fn like(word: &str) -> String {
    let mut pattern = String::from("%");
    for c in word.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
