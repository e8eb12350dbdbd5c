//! A fleet of osquery agents over a crash: nothing that they were told is safe is lost.

use muster_testkit::{Server, ServerOptions, wait_for};
use serde_json::{Value, json};

use crate::support::{Ask, OsqueryFleet, SOON};

const HOSTS: u64 = 60;

/// Agents that do in a second what others do in ten; two pairs of them come from one image.
const ARGS: [&str; 22] = [
    "--hosts",
    "60",
    "--clones",
    "4",
    "--start",
    "1",
    "--distributed-interval",
    "1",
    "--config-interval",
    "5",
    "--log-interval",
    "1",
    "--lines",
    "2",
    "--large",
    "0.002",
    "--packages",
    "50",
    "--dirty-permille",
    "100",
    "--drain",
    "60",
];

/// The tag of a row, which is in no other line.
const TAG: &str = "split_part(split_part(columns, '\"instance_id\":\"', 2), '\"', 1)";

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_default()
}

#[test]
fn a_server_killed_under_osquery_agents_loses_no_line() -> anyhow::Result<()> {
    let mut server =
        Server::up(ServerOptions { args: vec!["--no-agent".into()], ..ServerOptions::default() })?;
    let mut fleet = OsqueryFleet::start(&server, &ARGS)?;
    let before = fleet.wait("the fleet to log", |report| {
        count(report, "enrolled") >= HOSTS && count(report, "lines_taken") > 5 * HOSTS
    })?;
    server.kill();
    // Everybody has met the closed port.
    fleet.wait("lines to gather", |report| count(report, "lines_buffered") > 2 * HOSTS)?;
    server.start()?;
    let enough = count(&before, "lines_taken") + 10 * HOSTS;
    fleet.wait("the fleet to go on", |report| count(report, "lines_taken") > enough)?;
    let last = fleet.stop()?;

    for none in ["lines_buffered", "lines_forgotten", "node_invalid", "restarts"] {
        assert_eq!(last[none], 0, "{none}: {last}");
    }
    assert_eq!(last["lost"], json!({}), "{last}");
    assert_eq!(last["lines_made"], last["lines_taken"], "{last}");
    assert_eq!(server.list(&["agents"])?.len() as u64, HOSTS, "clones are agents of their own");

    let taken = |of: &str| count(&last["taken_of"], of);
    let own = "FROM osquery_other WHERE name = 'loadgen_osquery_info'";
    let words = "FROM agent_log WHERE message LIKE '%Executing scheduled query osq-%'";
    arrived(&server, own, TAG, taken("own"))?;
    arrived(&server, "FROM osquery_other WHERE name = 'loadgen_large'", TAG, taken("large"))?;
    arrived(&server, words, "message", taken("status"))?;
    // What was sent again after the crash was recognised.
    for (from, wanted) in [(own, taken("own")), (words, taken("status"))] {
        if let Some(rows) = server.sql(&format!("SELECT COUNT(*) AS n {from}"))? {
            assert_eq!(rows, [json!({ "n": wanted })], "{from}");
        }
    }
    Ok(())
}

/// Waits until SQL finds as many different tags as lines were taken, and no more.
fn arrived(server: &Server, from: &str, tag: &str, taken: u64) -> anyhow::Result<()> {
    let mut found = None;
    let waited = wait_for("all lines in SQL", SOON, || {
        found = server.sql(&format!("SELECT COUNT(DISTINCT {tag}) AS n {from}"))?;
        let Some(rows) = &found else { return Ok(Some(())) };
        Ok((rows.first().map(|row| count(row, "n")) >= Some(taken)).then_some(()))
    });
    waited.map_err(|error| error.context(format!("{taken} taken {from}: {found:?}")))?;
    if let Some(rows) = found {
        assert_eq!(rows, [json!({ "n": taken })], "{from}");
    }
    Ok(())
}
