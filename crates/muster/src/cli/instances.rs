//! `muster instances`: who runs, who holds which lease, and how far behind the fold is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::output::Format;
use super::session::Session;
use crate::client::CliError;

/// Flags of `muster instances`.
#[derive(clap::Args)]
pub struct Instances {
    /// One line per shard: who folds it, and how far it is behind.
    #[arg(long, conflicts_with = "all")]
    pub shards: bool,
    /// Also those that have left, or have been gone for more than a day.
    #[arg(long)]
    pub all: bool,
}

/// An instance that vanished is worth a line for this long.
const GONE_SHOWN: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// `muster instances`.
pub async fn run(session: &Session, args: Instances) -> Result<(), CliError> {
    if args.shards {
        let columns = [
            "shard",
            "holder",
            "epoch",
            "committed",
            "newest",
            "lag_records",
            "lag_seconds",
            "problem",
        ];
        return session.list_with("/v1/shards", &[], &columns, rounded).await;
    }
    if session.format != Format::Table {
        return session.list("/v1/instances", &[], &[]).await;
    }
    let shards: Value = session.client.get("/v1/shards").await?;
    let behind = behind(&shards);
    let all: Value = session.client.get("/v1/instances").await?;
    let columns = [
        "name",
        "state",
        "roles",
        "version",
        "addresses",
        "leases",
        "lag",
        "agents",
        "cpu",
        "memory",
        "started_at",
    ];
    let kept = |row: &Map<String, Value>| args.all || is_shown(row);
    let for_people = |row| for_people(row, &behind);
    session.list_chosen("/v1/instances", &columns, kept, for_people).await?;
    remarks(&all, &shards);
    Ok(())
}

/// Those that live, and those that somebody may be missing.
fn is_shown(row: &Map<String, Value>) -> bool {
    let heartbeat = row.get("heartbeat_at").and_then(Value::as_str);
    let heartbeat = heartbeat.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let recent = heartbeat.is_some_and(|at| jiff::Timestamp::now().duration_since(at) < GONE_SHOWN);
    match row.get("state").and_then(Value::as_str) {
        Some("left") => false,
        Some("gone") => recent,
        _ => true,
    }
}

/// The most any shard of an instance is behind, by its name.
fn behind(shards: &Value) -> BTreeMap<String, (u64, f64)> {
    let mut behind = BTreeMap::new();
    for shard in shards["items"].as_array().into_iter().flatten() {
        let Some(holder) = shard["holder"].as_str() else { continue };
        let lag: &mut (u64, f64) = behind.entry(holder.to_owned()).or_default();
        lag.0 += shard["lag_records"].as_u64().unwrap_or(0);
        lag.1 = lag.1.max(shard["lag_seconds"].as_f64().unwrap_or(0.0));
    }
    behind
}

/// Leases as `shards 0-31, dispatch 0-7`, lag as `12 records, 0.4 s`.
fn for_people(
    mut row: Map<String, Value>,
    behind: &BTreeMap<String, (u64, f64)>,
) -> Map<String, Value> {
    if let Some(leases) = row.get("leases").and_then(Value::as_array) {
        let words = leases.iter().filter_map(|lease| {
            let job = lease["job"].as_str().filter(|job| !is_share(job))?;
            Some(match lease["ranges"].as_str()? {
                "0" => job.to_owned(),
                ranges => format!("{job} {ranges}"),
            })
        });
        let words = words.collect::<Vec<_>>().join(" · ");
        row.insert("leases".into(), words.into());
    }
    let alive = row.get("alive").and_then(Value::as_bool).unwrap_or(false);
    let name = row.get("name").and_then(Value::as_str).unwrap_or_default();
    let lag = match behind.get(name) {
        Some((0, _)) => "none".to_owned(),
        Some((records, seconds)) => format!("{records} records, {seconds:.1} s"),
        None => String::new(),
    };
    row.insert("lag".into(), lag.into());
    let load = |key: &str| row.get("load").and_then(|load| load[key].as_u64()).unwrap_or(0);
    let (agents, cpu) = (load("sessions").to_string(), format!("{} %", load("cpu_percent")));
    let memory = format!("{} MiB", load("memory_bytes") >> 20);
    for (key, text) in [("agents", agents), ("cpu", cpu), ("memory", memory)] {
        row.insert(key.into(), if alive { text } else { String::new() }.into());
    }
    row
}

/// Shares of limits are no work.
fn is_share(job: &str) -> bool {
    matches!(job, "enrolments" | "requests")
}

fn rounded(mut row: Map<String, Value>) -> Map<String, Value> {
    if let Some(seconds) = row.get("lag_seconds").and_then(Value::as_f64) {
        row.insert("lag_seconds".into(), format!("{seconds:.1}").into());
    }
    if row.get("lag_is_more").and_then(Value::as_bool) == Some(true)
        && let Some(records) = row.get("lag_records").and_then(Value::as_u64)
    {
        row.insert("lag_records".into(), format!("{records} or more").into());
    }
    row
}

/// What the table does not say: versions side by side, shards nobody folds.
fn remarks(instances: &Value, shards: &Value) {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances["items"].as_array().into_iter().flatten() {
        if instance["alive"] == true {
            *versions.entry(instance["version"].as_str().unwrap_or("?")).or_default() += 1;
        }
    }
    if versions.len() > 1 {
        let words = versions.iter().map(|(version, count)| format!("{version} ({count})"));
        eprintln!("versions side by side: {}", words.collect::<Vec<_>>().join(", "));
    }
    let items = || shards["items"].as_array().into_iter().flatten();
    let idle = items().filter(|shard| shard["holder"].is_null()).count();
    if idle > 0 {
        eprintln!("{idle} shards are folded by nobody");
    }
    let standing = items().filter(|shard| shard["problem"].is_string()).count();
    if standing > 0 {
        eprintln!("{standing} shards cannot be read; see muster instances --shards");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_for_people() {
        let row = json!({"name": "a", "alive": true, "leases": [
            {"job": "shards", "partitions": 3, "ranges": "0-1,5"},
            {"job": "compact", "partitions": 1, "ranges": "0"},
            {"job": "requests", "partitions": 48, "ranges": "0-47"}],
            "load": {"sessions": 7, "cpu_percent": 12, "memory_bytes": 10 << 20}});
        let shards = json!({"items": [
            {"holder": "a", "lag_records": 2, "lag_seconds": 0.25},
            {"holder": "a", "lag_records": 0, "lag_seconds": 0.0},
            {"holder": null, "lag_records": 9, "lag_seconds": 5.0}]});
        let row = for_people(row.as_object().unwrap().clone(), &behind(&shards));
        assert_eq!(row["leases"], "shards 0-1,5 · compact");
        assert_eq!((&row["lag"], &row["agents"]), (&json!("2 records, 0.2 s"), &json!("7")));
        assert_eq!(row["memory"], "10 MiB");
    }
}
