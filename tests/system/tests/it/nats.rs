//! A server with stream and bus on NATS, whose process is killed in the middle of hunts.

use std::time::Duration;

use anyhow::{Context, ensure};
use muster_testkit::{Nats, NatsOptions, Server, ServerOptions, wait_for};
use muster_types::SHARDS;

use crate::support::{Ask, Fleet, SOON};

const AGENTS: u64 = 60;
const ROWS: u64 = 5;
const QUESTION: [&str; 6] =
    ["--sql", "SELECT pid, name FROM processes", "--rate", "20000", "--canary", "0"];

pub fn options(nats: &Nats) -> ServerOptions {
    let env = [
        ("MUSTER_STREAM__URL", nats.url()),
        ("MUSTER_NATS__REPLICAS", "1".to_owned()),
        ("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "5000".to_owned()),
    ];
    ServerOptions {
        env: env.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        args: vec!["--no-agent".into()],
    }
}

#[test]
fn hunts_lose_nothing_when_nats_is_killed() -> anyhow::Result<()> {
    let mut nats = Nats::start()?;
    let server = Server::up(options(&nats))?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "60", "--canned", "5"])?;
    fleet.up(AGENTS, AGENTS)?;
    let mut hunts = Vec::new();
    for moment in [0, 40, 300] {
        hunts.push(server.hunt(&QUESTION)?);
        std::thread::sleep(Duration::from_millis(moment));
        nats.kill(0)?;
        wait_for("the server to see it", SOON, || {
            let connected = server.metric("muster_nats_connected{connection=\"stream\"}")?;
            Ok((connected == 0.0).then_some(()))
        })?;
        ensure!(server.health("/livez")?.starts_with("HTTP/1.1 200"));
        nats.restart(0)?;
        nats.wait_ready()?;
        wait_for("the server to be back on it", SOON, || {
            let connected = server.metric("muster_nats_connected{connection=\"stream\"}")?;
            Ok((connected == 1.0).then_some(()))
        })?;
    }
    for hunt in hunts {
        let covered = server.covered(hunt, "all to answer", |c| c.is_complete(AGENTS))?;
        assert!(covered.sums(), "{covered:?}");
        // Each once, however often it had to be sent.
        assert_eq!((covered.get("rows"), covered.get("row_count")), (AGENTS, AGENTS * ROWS));
    }
    assert!(server.metric("muster_nats_reconnects_total{connection=\"stream\"}")? >= 3.0);
    Ok(())
}

#[test]
fn a_server_starts_without_nats_and_finds_it() -> anyhow::Result<()> {
    let mut nats = Nats::start()?;
    nats.kill(0)?;
    let server = Server::up(options(&nats))?;
    assert_eq!(server.metric("muster_nats_stream_usable")?, 0.0);
    nats.restart(0)?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "60", "--canned", "5"])?;
    fleet.up(AGENTS, AGENTS)?;
    let hunt = server.hunt(&QUESTION)?;
    let covered = server.covered(hunt, "all to answer", |c| c.is_complete(AGENTS))?;
    assert_eq!(covered.get("row_count"), AGENTS * ROWS);
    Ok(())
}

/// The subjects that the handbook names are enough, for embedded users and for whoever gives fewer rights.
#[test]
fn a_user_with_the_rights_of_the_handbook_is_enough() -> anyhow::Result<()> {
    const PASSWORD: &str = "only here";
    let extra = format!(
        "authorization {{ users: [{{ user: muster, password: \"{PASSWORD}\", permissions: {{ \
           publish: [\"muster.>\", \"$JS.API.>\", \"_INBOX.>\"], \
           subscribe: [\"muster.>\", \"_INBOX.>\"] }} }}] }}"
    );
    let nats = Nats::with(&NatsOptions { extra, ..NatsOptions::default() })?;
    let dir = tempfile::tempdir()?;
    let password = dir.path().join("password");
    std::fs::write(&password, PASSWORD)?;
    let mut options = options(&nats);
    options.env.push(("MUSTER_NATS__USER".into(), "muster".into()));
    options.env.push(("MUSTER_NATS__PASSWORD_FILE".into(), password.display().to_string()));
    let server = Server::up(options)?;
    let mut fleet = Fleet::start(&server, &["--endpoints", "60", "--canned", "5"])?;
    fleet.up(AGENTS, AGENTS)?;
    let hunt = server.hunt(&QUESTION)?;
    let covered = server.covered(hunt, "all to answer", |c| c.is_complete(AGENTS))?;
    assert_eq!(covered.get("row_count"), AGENTS * ROWS);
    // What is folded is purged, which is a right of its own: of every shard stays the message that
    // holds its position, however much that one carries.
    wait_for("what is folded to be purged", SOON, || {
        let answer = nats.monitor(0, "/jsz")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
        let state: serde_json::Value = serde_json::from_str(body)?;
        let kept = state["messages"].as_u64().context("how many messages the server keeps")?;
        Ok((kept == u64::from(SHARDS)).then_some(()))
    })?;
    let log = nats.log(0);
    ensure!(!log.contains("Permissions Violation"), "{log}");
    Ok(())
}
