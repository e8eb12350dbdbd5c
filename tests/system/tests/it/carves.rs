//! Files that osquery agents carve: asked for by a hunt, sent in blocks over a crash of the server, fetched by
//! the command line, byte for byte.

use std::collections::BTreeSet;

use muster_testkit::{Server, ServerOptions, wait_for};
use serde_json::Value;

use crate::support::{Ask, OsqueryFleet, SOON};

const HOSTS: usize = 3;
const BYTES: usize = 16_000_001;
/// What simulated hosts send: each byte is its own place, so that a block in a wrong one shows.
fn content() -> Vec<u8> {
    (0..BYTES).map(|at| at as u8).collect()
}

fn guids(rows: &[Value], key: &str) -> BTreeSet<String> {
    rows.iter().filter_map(|row| row[key].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_carved_file_is_whole_though_the_server_was_killed_while_it_came() -> anyhow::Result<()> {
    let mut server =
        Server::up(ServerOptions { args: vec!["--no-agent".into()], ..ServerOptions::default() })?;
    let (hosts, bytes) = (HOSTS.to_string(), BYTES.to_string());
    let paced = ["--start", "0.1", "--distributed-interval", "1", "--query-ms", "0"];
    let files = ["--hosts", &hosts, "--old-percent", "0", "--carve-bytes", &bytes];
    let mut fleet = OsqueryFleet::start(&server, &[&paced[..], &files].concat())?;
    fleet.wait("the fleet", |report| report["enrolled"] == HOSTS)?;

    let hunt =
        server.hunt(&["--sql", "SELECT * FROM carves WHERE carve = 1 AND path = '/etc/hosts'"])?;
    wait_for("blocks to come", SOON, || {
        Ok((server.list(&["upload", "list", "--state", "open"])?.len() == HOSTS).then_some(()))
    })?;
    // In the middle of it: none is whole yet.
    server.kill();
    server.start()?;
    let uploads = wait_for("all of them to be stored", SOON, || {
        let stored = server.list(&["upload", "list", "--state", "stored"])?;
        Ok((stored.len() == HOSTS).then_some(stored))
    })?;
    let report = fleet.wait("the fleet to know", |report| report["carves_sent"] == HOSTS)?;
    assert!(report["errors"].as_object().is_some_and(|errors| !errors.is_empty()), "{report}");

    let agents: BTreeSet<u64> = uploads.iter().filter_map(|one| one["agent"].as_u64()).collect();
    assert_eq!(agents.len(), HOSTS, "{uploads:?}");
    let wanted = content();
    for upload in &uploads {
        assert_eq!(upload["byte_count"], BYTES, "{upload}");
        let (no, to) = (upload["no"].to_string(), server.scratch().join("carved"));
        let to = to.to_str().expect("a path of this test's own");
        let told = server.tell(&["upload", "get", &no, "--to", to])?;
        assert!(
            told.code == 0 && told.err.contains(upload["sha256"].as_str().unwrap()),
            "{told:?}"
        );
        assert!(std::fs::read(to)? == wanted, "upload {no} is not what was sent");
        // Never over a file that is there.
        assert_eq!(server.tell(&["upload", "get", &no, "--to", to])?.code, 1);
        std::fs::remove_file(to)?;
    }
    server.covered(hunt, "rows", |c| c.is_complete(HOSTS as u64))?;
    if let Some(rows) = server.sql(&format!("SELECT carve_guid FROM hunt_{hunt}"))? {
        assert_eq!(guids(&rows, "carve_guid"), guids(&uploads, "external_id"));
    }
    Ok(())
}
