//! Log destinations of a whole server, made and watched by the command line.

use std::collections::BTreeMap;
use std::path::Path;

use muster_testkit::{Server, ServerOptions, wait_for};
use serde_json::Value;

use crate::support::{Ask, SOON};

/// The rows of a file sink, by id: how often each stands there.
fn ids(path: &Path) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut ids = BTreeMap::new();
    // Half a line at the end is being written.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let row: Value = serde_json::from_str(line)?;
        let id = row["event"]["id"].as_str().unwrap_or_default().to_owned();
        *ids.entry(id).or_insert(0) += 1;
    }
    Ok(ids)
}

#[test]
fn a_file_has_each_row_once_although_the_server_is_killed() -> anyhow::Result<()> {
    const ROWS: usize = 2000;
    let mut server = Server::up(ServerOptions::default())?;
    server.agent_online()?;
    server.ok(&["sink", "add", "file", "events", "events.ndjson", "--batch-rows", "50"])?;
    server.ok(&["sink", "add", "webhook", "dead", "http://127.0.0.1:9/", "--allow-private"])?;
    let path = server.data_dir().join("sinks/events.ndjson");
    for round in 1..=3 {
        let sql = format!(
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {ROWS}) \
             SELECT x, {round} AS round FROM c"
        );
        server.agent_online()?;
        server.ok(&["query", &sql])?;
        // Mostly in the middle of its batches.
        wait_for("the first rows of a round", SOON, || {
            Ok((ids(&path)?.len() > (round - 1) * ROWS).then_some(()))
        })?;
        server.kill();
        server.start()?;
    }
    let all = wait_for("all rows", SOON, || {
        let ids = ids(&path)?;
        Ok((ids.len() >= 3 * ROWS).then_some(ids))
    })?;
    assert_eq!((all.len(), all.values().sum::<usize>()), (3 * ROWS, 3 * ROWS));
    let sinks = server.list(&["sink", "list"])?;
    let (dead, events) = (&sinks[0], &sinks[1]);
    assert_eq!((&dead["state"], &dead["lag_rows"]), (&"failing".into(), &(3 * ROWS).into()));
    assert!(dead["error"].as_str().is_some_and(|error| error.contains("refused")), "{dead}");
    assert_eq!((&events["state"], &events["refused_rows"]), (&"active".into(), &0.into()));
    server.ok(&["sink", "test", "events"])?;
    server.ok(&["sink", "remove", "dead", "--yes"])?;
    Ok(())
}

#[test]
fn standard_output_has_each_row_as_a_line_of_its_own() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    server.agent_online()?;
    server.ok(&["sink", "add", "stdout", "lines"])?;
    let sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 300) \
               SELECT x, 'a \"line\"' || char(10) || 'of two' AS text FROM c";
    server.ok(&["query", sql])?;
    let rows = || -> anyhow::Result<Vec<Value>> {
        // The banner and the log go there as well.
        let output = server.output();
        let lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events = lines.filter(|line| line.starts_with('{') && line.contains("of two"));
        events.map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let told = wait_for("all rows", SOON, || {
        let told = rows()?;
        Ok((told.len() >= 300).then_some(told))
    })?;
    let ids: BTreeMap<_, _> =
        told.iter().map(|row| (row["event"]["id"].to_string(), row)).collect();
    assert_eq!((told.len(), ids.len()), (300, 300));
    Ok(())
}
