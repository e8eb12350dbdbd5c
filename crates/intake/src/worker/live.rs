//! Rows for those who look on: hints, as soon as they are folded.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Topic};
use muster_types::{HuntNo, RowFormat};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::fold::LiveRows;

/// How long a watch lasts; whoever looks on says so again before.
const WATCH: Duration = Duration::from_secs(30);
const WATCHED_MAX: usize = 1024;
/// Rows of one hint, in bytes. Who needs more finds them in the segment.
const HINT_BYTES_MAX: usize = 256 << 10;

/// Hunts that somebody looks at. Bounded, and forgotten after a while.
#[derive(Debug, Default)]
pub struct Watched(HashMap<HuntNo, Instant>);

impl Watched {
    /// Takes in a hint of [`Topic::Watch`]: a JSON array of hunt numbers.
    pub fn hint(&mut self, content: &[u8], now: Instant) {
        let Ok(hunts) = serde_json::from_slice::<Vec<HuntNo>>(content) else { return };
        self.0.retain(|_, until| *until > now);
        for hunt in hunts {
            if self.0.len() < WATCHED_MAX || self.0.contains_key(&hunt) {
                self.0.insert(hunt, now + WATCH);
            }
        }
    }

    /// Whether somebody looks at this hunt.
    #[must_use]
    pub fn contains(&self, hunt: HuntNo) -> bool {
        self.0.contains_key(&hunt)
    }
}

#[derive(Serialize)]
struct Hint<'a> {
    shard: u8,
    pos: u64,
    agent: u32,
    row_count: u64,
    rows: Vec<&'a RawValue>,
    /// Set when there are more rows than fit; they are in the segment.
    truncated: bool,
    end: Option<End<'a>>,
}

#[derive(Serialize)]
struct End<'a> {
    outcome: &'static str,
    message: &'a str,
}

/// Tells them.
pub(super) fn publish(bus: &dyn Bus, live: &[LiveRows]) {
    for rows in live {
        let truncated = rows.json.len() > HINT_BYTES_MAX;
        let hint = Hint {
            shard: rows.agent.shard().get(),
            pos: rows.pos.0,
            agent: rows.agent.0,
            row_count: rows.rows,
            rows: if truncated { Vec::new() } else { split(rows) },
            truncated,
            end: rows
                .end
                .as_ref()
                .map(|end| End { outcome: end.outcome.as_str(), message: &end.message }),
        };
        match serde_json::to_vec(&hint) {
            Ok(content) => bus.publish(Topic::Live(rows.hunt), Bytes::from(content)),
            Err(error) => tracing::warn!(%error, hunt = %rows.hunt, "failed to write a live hint"),
        }
    }
}

fn split(rows: &LiveRows) -> Vec<&RawValue> {
    match rows.format {
        RowFormat::Array => serde_json::from_slice(&rows.json).unwrap_or_default(),
        RowFormat::Lines => serde_json::Deserializer::from_slice(&rows.json)
            .into_iter()
            .map_while(Result::ok)
            .collect(),
    }
}
