//! Rows that hints did not bring: read from the segments.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use muster_types::{Access, HuntNo};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::problem::{Code, Problem, Result};
use crate::sql::{Format, Question, Rows, collect};
use crate::state::ApiState;

/// Rows of one look.
const ROWS_MAX: u64 = 20_000;
/// Bytes of one look; it fails beyond.
const BYTES_MAX: usize = 256 << 20;
/// How often it is asked again while too many questions wait, and after how long.
const BUSY_MAX: u32 = 15;
const BUSY: Duration = Duration::from_secs(1);
/// What the server adds to a row; hints carry rows as the agents sent them.
const SYSTEM: [&str; 11] = [
    "endpoint_name",
    "endpoint",
    "agent",
    "agent_kind",
    "hunt",
    "attempt",
    "late",
    "received_time",
    "endpoint_time",
    "_shard",
    "_pos",
];

/// Rows of one look where SQL may not answer so many.
fn rows_max(state: &ApiState) -> u64 {
    ROWS_MAX.min(state.sql.rows)
}

/// Rows of one record that were not sent yet.
pub(super) struct Found {
    pub(super) agent: u32,
    pub(super) rows: Vec<Box<RawValue>>,
}

/// A record's shard and position.
pub(super) type Place = (u8, u64);

/// A part of what is stored.
pub(super) struct Page {
    pub(super) found: Vec<Found>,
    pub(super) next: Next,
}

/// What comes after a page.
pub(super) enum Next {
    /// More, behind this record.
    Page(Place),
    /// A record that is longer than a page: its rest cannot be read.
    Cut,
    /// Nothing.
    End,
}

/// Those who follow a hunt all look when it ends, so there may be more than can wait.
async fn patiently(
    state: &ApiState,
    account: i64,
    question: impl Fn() -> Question,
) -> Result<Bytes> {
    let mut tries = 0;
    loop {
        match collect(state, Some(account), question(), BYTES_MAX).await {
            Err(problem) if problem.code() == Code::TooMany && tries < BUSY_MAX => {
                tries += 1;
                sleep(BUSY).await;
            }
            answer => return answer,
        }
    }
}

/// Reads the committed rows of a hunt behind `after` and returns those of records not in `seen`, which
/// then are.
pub(super) async fn missing(
    state: &ApiState,
    account: i64,
    access: &Access,
    hunt: HuntNo,
    after: Option<Place>,
    seen: &mut HashSet<Place>,
) -> Result<Page> {
    let behind = after.map_or_else(String::new, |(shard, pos)| {
        format!("WHERE _shard > {shard} OR (_shard = {shard} AND _pos > {pos}) ")
    });
    let question = || Question {
        sql: format!("SELECT *, _shard, _pos FROM hunt_{hunt} {behind}ORDER BY _shard, _pos, _row"),
        access: access.clone(),
        format: Format::Ndjson,
        time: None,
        rows: Rows::AtMost(rows_max(state)),
        subject: String::new(),
    };
    let lines = match patiently(state, account, question).await {
        // The table of an ad-hoc query appears with its first row.
        Err(problem) if problem.code() == Code::InvalidQuery => {
            return Ok(Page { found: Vec::new(), next: Next::End });
        }
        lines => lines?,
    };
    let mut records: Vec<(Place, Found)> = Vec::new();
    let mut row_count = 0;
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut row: Map<String, Value> =
            serde_json::from_slice(line).map_err(Problem::internal)?;
        let Some((place, agent)) = place(&row) else { continue };
        row_count += 1;
        if records.last().is_none_or(|(last, _)| *last != place) {
            records.push((place, Found { agent, rows: Vec::new() }));
        }
        if seen.contains(&place) {
            continue;
        }
        // In place, because removing one by one would change the order of the others.
        row.retain(|name, _| !SYSTEM.contains(&name.as_str()));
        let text = serde_json::value::to_raw_value(&row).map_err(Problem::internal)?;
        if let Some((_, found)) = records.last_mut() {
            found.rows.push(text);
        }
    }
    let mut next = Next::End;
    if row_count >= rows_max(state) {
        // Of the last record there may be more.
        let last = records.pop();
        next = match (records.last(), last) {
            (Some((place, _)), _) => Next::Page(*place),
            (None, Some((place, _))) if seen.contains(&place) => Next::Page(place),
            _ => Next::Cut,
        };
    }
    let found = records.into_iter().filter(|(place, _)| seen.insert(*place));
    Ok(Page { found: found.map(|(_, found)| found).collect(), next })
}

fn place(row: &Map<String, Value>) -> Option<((u8, u64), u32)> {
    let shard = u8::try_from(row.get("_shard")?.as_u64()?).ok()?;
    let agent = u32::try_from(row.get("agent")?.as_u64()?).ok()?;
    Some(((shard, row.get("_pos")?.as_u64()?), agent))
}
