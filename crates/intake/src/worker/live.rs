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

/// Tells them: one hint per hunt and record, which is how readers tell a hint that came twice.
pub(super) fn publish(bus: &dyn Bus, live: &[LiveRows]) {
    let mut live: Vec<&LiveRows> = live.iter().collect();
    // Stable: what one record brought stays in its order.
    live.sort_by_key(|rows| (rows.hunt, rows.agent.shard(), rows.pos));
    let of_one_record =
        |a: &&LiveRows, b: &&LiveRows| (a.hunt, a.agent, a.pos) == (b.hunt, b.agent, b.pos);
    for parts in live.chunk_by(of_one_record) {
        let (hunt, agent, pos) = (parts[0].hunt, parts[0].agent, parts[0].pos);
        let bytes: usize = parts.iter().map(|rows| rows.json.len()).sum();
        let truncated = bytes > HINT_BYTES_MAX;
        let end = parts.iter().find_map(|rows| rows.end.as_ref());
        let hint = Hint {
            shard: agent.shard().get(),
            pos: pos.0,
            agent: agent.0,
            row_count: parts.iter().map(|rows| rows.rows).sum(),
            rows: match truncated {
                true => Vec::new(),
                false => parts.iter().flat_map(|rows| split(rows)).collect(),
            },
            truncated,
            end: end.map(|end| End { outcome: end.outcome.as_str(), message: &end.message }),
        };
        match serde_json::to_vec(&hint) {
            Ok(content) => bus.publish(Topic::Live(hunt), Bytes::from(content)),
            Err(error) => tracing::warn!(%error, %hunt, "failed to write a live hint"),
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

#[cfg(test)]
mod tests {
    use muster_bus::Hint as BusHint;
    use muster_bus::local::LocalBus;
    use muster_types::{AgentNo, Outcome, Pos};

    use super::*;
    use crate::fold::EndSeen;

    fn rows(hunt: u64, pos: u64, json: &'static str, end: bool) -> LiveRows {
        LiveRows {
            hunt: HuntNo(hunt),
            agent: AgentNo(7),
            pos: Pos(pos),
            rows: 1,
            json: Bytes::from_static(json.as_bytes()),
            format: RowFormat::Array,
            end: end.then(|| EndSeen { outcome: Outcome::Rows, message: String::new() }),
        }
    }

    #[tokio::test]
    async fn what_one_record_brought_is_one_hint() {
        let bus = LocalBus::new(16);
        let mut hints = bus.subscribe(&[Topic::Live(HuntNo(1))]);
        let live = [
            rows(1, 5, r#"[{"a":1}]"#, false),
            rows(2, 5, r#"[{"a":9}]"#, false),
            rows(1, 5, r#"[{"a":2}]"#, true),
            rows(1, 6, r#"[{"a":3}]"#, false),
        ];
        publish(&*bus, &live);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let Some(BusHint::Message(_, content)) = hints.next().await else { panic!("a hint") };
            let hint: serde_json::Value = serde_json::from_slice(&content).unwrap();
            seen.push((hint["pos"].clone(), hint["rows"].to_string(), !hint["end"].is_null()));
        }
        let wanted = [(5, r#"[{"a":1},{"a":2}]"#, true), (6, r#"[{"a":3}]"#, false)];
        let wanted = wanted.map(|(pos, rows, end)| (pos.into(), rows.to_owned(), end));
        assert_eq!(seen, wanted);
    }
}
