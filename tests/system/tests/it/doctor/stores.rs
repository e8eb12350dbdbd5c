//! Faults of stores that are servers of their own, and of a stream that is full: planted with the real
//! programs, and mended where that is quick.

use std::path::Path;

use anyhow::ensure;
use muster_testkit::{Nats, NatsOptions, wait_for};
use serde_json::Value;

use super::{Patient, findings};
use crate::support::{Ask, Fleet, SOON};

impl Patient {
    /// The only kind of finding there is, the same through the server and beside its stores; its texts.
    fn only(&self, id: &str, config: &Path) -> anyhow::Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        for config in [None, Some(config)] {
            let found = findings(&self.told(config));
            ensure!(!found.is_empty(), "nothing is found ({config:?})");
            ensure!(found.iter().all(|one| one["id"] == id), "{config:?}: {found:?}");
            let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
            texts.extend(found.iter().map(|one| (text(one, "problem"), text(one, "remedy"))));
        }
        Ok(texts)
    }

    /// Nothing is wrong, seen from either side.
    fn well(&self, config: &Path) -> anyhow::Result<()> {
        for config in [None, Some(config)] {
            let found = findings(&self.told(config));
            ensure!(found.is_empty(), "{config:?}: {found:?}");
        }
        Ok(())
    }
}

/// Three NATS servers and an installation on them that knows where they can be looked at.
fn on_nats(sync_always: bool) -> anyhow::Result<(Patient, Nats)> {
    let nats = Nats::with(&NatsOptions { nodes: 3, sync_always, ..NatsOptions::default() })?;
    let monitors: Vec<String> = (0..3).map(|node| nats.monitor_url(node)).collect();
    let env = [
        ("MUSTER_STREAM__URL", nats.url()),
        ("MUSTER_NATS__REPLICAS", "3".to_owned()),
        ("MUSTER_NATS__MONITORS", serde_json::to_string(&monitors)?),
    ];
    let env = env.map(|(key, value)| (key.to_owned(), value));
    Ok((Patient::with(env.into(), "")?, nats))
}

#[test]
fn nats_that_acknowledges_before_it_is_on_disk() -> anyhow::Result<()> {
    let (patient, nats) = on_nats(true)?;
    patient.well(&patient.config("same.yaml", |text| text))?;
    drop((patient, nats));
    let (patient, nats) = on_nats(false)?;
    let told = patient.only("nats-sync", &patient.config("same.yaml", |text| text))?;
    // Each server by its name, from both sides.
    ensure!(told.len() == 6, "{told:?}");
    for node in 0..3 {
        let named = told.iter().filter(|(problem, _)| problem.starts_with(nats.name(node)));
        ensure!(named.count() == 2, "{}: {told:?}", nats.name(node));
    }
    for (problem, remedy) in told {
        ensure!(problem.contains("every 120 s"), "{problem}");
        ensure!(remedy.contains("sync_interval: always"), "{remedy}");
    }
    Ok(())
}

/// Answers of one hunt: 60 agents with 200 rows each.
const AGENTS: u64 = 60;
const ROWS: &str = "200";
/// More than fills the quota.
const HUNTS: usize = 60;

#[test]
fn a_stream_whose_quota_is_used_up() -> anyhow::Result<()> {
    let patient = Patient::with(Vec::new(), "stream: {quota: 4 MiB}")?;
    let config = patient.config("same.yaml", |text| text);
    patient.well(&config)?;
    let server = patient.cluster.instance(0);
    let agents = AGENTS.to_string();
    let fleet = ["--endpoints", &agents, "--canned", ROWS];
    let mut fleet = Fleet::spawn(patient.cluster.native_agents(&fleet)?)?;
    fleet.up(AGENTS, AGENTS)?;
    let question = ["--sql", "SELECT pid, name FROM processes", "--canary", "0"];
    let first = server.hunt(&question)?;
    server.covered(first, "all to answer", |c| c.is_complete(AGENTS))?;
    // What is folded cannot be stored: where segments go there is a file.
    let segments = patient.dir.path().join("archive/seg");
    let kept = patient.dir.path().join("kept");
    std::fs::rename(&segments, &kept)?;
    std::fs::write(&segments, "in the way")?;
    let mut hunts = Vec::new();
    while server.metric("muster_stream_stopped")? == 0.0 {
        ensure!(hunts.len() < HUNTS, "the stream does not fill");
        let hunt = server.hunt(&question)?;
        hunts.push(hunt);
        server.covered(hunt, "all to be asked", |c| c.get("recruited") == AGENTS)?;
    }
    // Instances report of themselves once a minute.
    let told = wait_for("the doctor to be told", 2 * SOON, || {
        let found = findings(&patient.told(None));
        Ok(found.into_iter().find(|one| one["id"] == "stream-stopped"))
    })?;
    let text = |key: &str| told[key].as_str().unwrap_or_default();
    ensure!(text("problem").contains("the stream's quota is used up"), "{told}");
    ensure!(text("remedy").contains("see that workers run and commit"), "{told}");
    ensure!(text("remedy").contains("raise stream.quota"), "{told}");
    ensure!(told["instance"].is_string(), "{told}");

    std::fs::remove_file(&segments)?;
    std::fs::rename(&kept, &segments)?;
    for hunt in hunts {
        let all =
            server.covered(hunt, "what was refused to come again", |c| c.is_complete(AGENTS))?;
        ensure!(all.get("row_count") == AGENTS * ROWS.parse::<u64>()?, "{all:?}");
    }
    ensure!(server.metric("muster_stream_stopped")? == 0.0);
    wait_for("the doctor to find nothing", 2 * SOON, || {
        Ok(findings(&patient.told(None)).is_empty().then_some(()))
    })
}
