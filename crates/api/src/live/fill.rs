//! Rows that hints did not bring: read from the segments.

use std::collections::HashSet;

use muster_types::{Access, HuntNo};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::problem::{Code, Problem, Result};
use crate::sql::{Format, Question, collect};
use crate::state::ApiState;

const ROWS_MAX: u64 = 100_000;
const BYTES_MAX: usize = 64 << 20;
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

/// Rows of one record that were not sent yet.
pub(super) struct Found {
    pub(super) agent: u32,
    pub(super) rows: Vec<Box<RawValue>>,
}

/// Reads the committed rows of a hunt and returns those of records not in `seen`, which then are.
pub(super) async fn missing(
    state: &ApiState,
    access: &Access,
    hunt: HuntNo,
    seen: &mut HashSet<(u8, u64)>,
) -> Result<Vec<Found>> {
    let question = Question {
        sql: format!("SELECT *, _shard, _pos FROM hunt_{hunt} ORDER BY _shard, _pos, _row"),
        access: access.clone(),
        format: Format::Ndjson,
        time: None,
        rows: Some(ROWS_MAX),
        subject: String::new(),
    };
    let lines = match collect(state, question, BYTES_MAX).await {
        // The table of an ad-hoc query appears with its first row.
        Err(problem) if problem.code() == Code::InvalidQuery => return Ok(Vec::new()),
        lines => lines?,
    };
    let mut found: Vec<Found> = Vec::new();
    let mut last = None;
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut row: Map<String, Value> =
            serde_json::from_slice(line).map_err(Problem::internal)?;
        let Some((place, agent)) = place(&row) else { continue };
        if last != Some(place) {
            if !seen.insert(place) {
                continue;
            }
            last = Some(place);
            found.push(Found { agent, rows: Vec::new() });
        }
        // In place, because removing one by one would change the order of the others.
        row.retain(|name, _| !SYSTEM.contains(&name.as_str()));
        let text = serde_json::value::to_raw_value(&row).map_err(Problem::internal)?;
        if let Some(found) = found.last_mut() {
            found.rows.push(text);
        }
    }
    Ok(found)
}

fn place(row: &Map<String, Value>) -> Option<((u8, u64), u32)> {
    let shard = u8::try_from(row.get("_shard")?.as_u64()?).ok()?;
    let agent = u32::try_from(row.get("agent")?.as_u64()?).ok()?;
    Some(((shard, row.get("_pos")?.as_u64()?), agent))
}
