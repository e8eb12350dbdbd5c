//! One scheduled query, as osquery and Fleet write it.

use serde_json::{Map, Value, json};

use super::json::Node;
use super::{Import, Kind, Place};
use crate::check::check_schedule;
use crate::model::reported_name;
use crate::{Mode, NewSchedule, Platforms, What};

/// What a pack says for all of its queries.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) name: String,
    pub(super) platforms: Platforms,
    pub(super) version: String,
    pub(super) shard: u8,
    pub(super) discovery: Vec<String>,
    pub(super) labels_in: Vec<String>,
    pub(super) enabled: bool,
}

impl Default for Pack {
    /// No pack at all.
    fn default() -> Self {
        Self {
            name: String::new(),
            platforms: Platforms::ALL,
            version: String::new(),
            shard: 100,
            discovery: Vec::new(),
            labels_in: Vec::new(),
            enabled: true,
        }
    }
}

/// Keys that say something for people only, or that only older agents know.
const SILENT: [&str; 6] = ["value", "oncall", "name", "author", "id", "blacklist"];

/// Reads the entry of a schedule or a pack and adds it to what is wanted.
pub(super) fn schedule(import: &mut Import, pack: &Pack, name: &str, node: &Node, at: Place) {
    let what = format!("query {:?}", reported_name(&pack.name, name));
    let mut new = match read(pack, name, node) {
        Ok(new) => new,
        Err(reason) => return import.skip(what, reason, at),
    };
    let known = [
        "query",
        "interval",
        "snapshot",
        "removed",
        "platform",
        "version",
        "shard",
        "denylist",
        "startup_priority",
        "description",
    ];
    for (key, line, _) in node.members() {
        if !known.contains(&key.as_str()) && !SILENT.contains(&key.as_str()) {
            let at = Place { line: *line, ..at.clone() };
            import.changed(&what, format!("{key:?} is not known here and left out"), at);
        }
    }
    if node.get("interval").is_none() {
        import.changed(&what, "has no interval; 3600 s, as osquery takes it", at.clone());
    }
    if new.platforms.is_empty() {
        let reason = "is for no platform that its pack is for";
        return import.skip(what, reason, at);
    }
    if let Err(error) = add(import, &mut new, at.clone()) {
        import.skip(what, error, at);
    }
}

/// Checks a schedule and adds it.
pub(super) fn add(import: &mut Import, new: &mut NewSchedule, at: Place) -> Result<(), String> {
    new.name = new.name.trim().to_owned();
    check_schedule(new).map_err(|error| error.to_string())?;
    let name = reported_name(&new.pack, &new.name);
    import.want(Kind::Schedule, &name, body(new), at);
    Ok(())
}

fn read(pack: &Pack, name: &str, node: &Node) -> Result<NewSchedule, String> {
    let sql = node.get("query").and_then(Node::text).map(str::trim).unwrap_or_default();
    if sql.is_empty() {
        return Err("has no query".to_owned());
    }
    let interval_s = match node.get("interval") {
        None => 3_600,
        Some(interval) => {
            let number = integer(interval).and_then(|n| u32::try_from(n).ok());
            number
                .ok_or_else(|| format!("interval {} is no number of seconds", interval.plain()))?
        }
    };
    let snapshot = flag(node, "snapshot", false)?;
    let removed = flag(node, "removed", true)?;
    let own: Platforms = text(node, "platform")?.parse()?;
    let shard = match node.get("shard") {
        None => 100,
        Some(shard) => {
            let number = integer(shard).and_then(|n| u8::try_from(n).ok());
            number.ok_or_else(|| format!("shard {} is no percentage", shard.plain()))?
        }
    };
    let priority = node.get("startup_priority").and_then(integer).unwrap_or_default();
    Ok(NewSchedule {
        pack: pack.name.clone(),
        what: What::Query(sql.to_owned()),
        description: text(node, "description")?.trim().to_owned(),
        mode: match (snapshot, removed) {
            (true, _) => Mode::Snapshot,
            (false, true) => Mode::Differential,
            (false, false) => Mode::AddedOnly,
        },
        platforms: own.both(pack.platforms),
        min_version: higher(&text(node, "version")?, &pack.version),
        // Both choose by the same hash of the host name, so the smaller share is what is left.
        shard_percent: shard.min(pack.shard),
        discovery: (!pack.name.is_empty()).then(|| pack.discovery.clone()),
        denylist: flag(node, "denylist", flag(node, "blacklist", true)?)?,
        priority,
        labels_in: pack.labels_in.clone(),
        enabled: pack.enabled,
        ..NewSchedule::of_query(name, sql, interval_s)
    })
}

/// The body for the API, with every value named, so that it can be compared with what there is.
pub(super) fn body(new: &NewSchedule) -> Map<String, Value> {
    let query = match &new.what {
        What::Query(sql) => sql.as_str(),
        What::Artifact { .. } => "",
    };
    let value = json!({
        "name": new.name,
        "pack": new.pack,
        "query": query,
        "description": new.description,
        "interval_s": new.interval_s,
        "mode": new.mode.as_str(),
        "platforms": new.platforms.to_string(),
        "min_version": new.min_version,
        "shard_percent": new.shard_percent,
        "discovery": new.discovery.clone().unwrap_or_default(),
        "denylist": new.denylist,
        "priority": new.priority,
        "labels_in": new.labels_in,
        "labels_out": new.labels_out,
        "enabled": new.enabled,
    });
    value.as_object().cloned().unwrap_or_default()
}

/// A number, or text that is one.
pub(super) fn integer(node: &Node) -> Option<i64> {
    match node.plain() {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A boolean, also written as osquery takes it.
pub(super) fn flag(node: &Node, key: &str, default: bool) -> Result<bool, String> {
    let Some(value) = node.get(key) else { return Ok(default) };
    match value.plain() {
        Value::Null => Ok(default),
        Value::Bool(flag) => Ok(flag),
        Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        Value::String(text) if ["true", "t", "1", "yes"].contains(&text.as_str()) => Ok(true),
        Value::String(text) if ["false", "f", "0", "no", ""].contains(&text.as_str()) => Ok(false),
        other => Err(format!("{key} {other} is neither true nor false")),
    }
}

/// Text that may be missing; a number is taken as text.
pub(super) fn text(node: &Node, key: &str) -> Result<String, String> {
    match node.get(key).map(Node::plain) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(format!("{key} {other} is no text")),
    }
}

/// The higher of two versions; empty is below all.
fn higher(a: &str, b: &str) -> String {
    let parts = |version: &str| {
        version.split('.').map(|part| part.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>()
    };
    if parts(a) >= parts(b) && !a.is_empty() { a.to_owned() } else { b.to_owned() }
}
