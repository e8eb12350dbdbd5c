//! Faults of stores that are servers of their own, of an upgrade that is not finished, and of a stream
//! that is full: planted with the real programs, and mended where that is quick.

use std::path::Path;

use anyhow::{Context as _, ensure};
use muster_testkit::{Cluster, InstanceOptions, Nats, NatsOptions, S3, wait_for};
use serde_json::Value;

use super::{Patient, findings};
use crate::support::{Ask, Fleet, Forgetful, SOON};

impl Patient {
    /// The only kind of finding there is once everything has settled (a server that was just started may lag
    /// behind its leader for a moment), the same through the server and beside its stores; its texts.
    fn only(&self, id: &str, config: &Path) -> anyhow::Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        let told = wait_for("nothing else to be found", SOON, || {
            let told = [None, Some(config)].map(|config| findings(&self.told(config)));
            let fits =
                |found: &Vec<Value>| !found.is_empty() && found.iter().all(|one| one["id"] == id);
            Ok(told.iter().all(fits).then_some(told))
        });
        let told = told.with_context(|| format!("{:?}", findings(&self.told(None))))?;
        for found in &told {
            let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
            texts.extend(found.iter().map(|one| (text(one, "problem"), text(one, "remedy"))));
        }
        Ok(texts)
    }

    /// Nothing is wrong once everything has settled, seen from either side.
    pub(super) fn well(&self, config: &Path) -> anyhow::Result<()> {
        let mut last = Vec::new();
        let well = wait_for("all to be well", SOON, || {
            last = [None, Some(config)].map(|config| findings(&self.told(config))).concat();
            Ok(last.is_empty().then_some(()))
        });
        well.with_context(|| format!("{last:?}"))
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

#[test]
fn an_archive_that_writes_over_what_is_there() -> anyhow::Result<()> {
    let objects = S3::start()?;
    let gateway = Forgetful::start(&objects)?;
    let mut env = objects.env("doctor");
    for (_, value) in &mut env {
        *value = value.replace(&objects.endpoint(), &gateway.endpoint());
    }
    let patient = Patient::with(env, "")?;
    let config = patient.config("same.yaml", |text| text);
    patient.well(&config)?;
    gateway.forget();
    let told = patient.only("archive-create", &config)?;
    for (problem, remedy) in told {
        ensure!(problem.contains("it overwrites objects"), "{problem}");
        ensure!(remedy.contains("honours `If-None-Match: *`"), "{remedy}");
        ensure!(remedy.contains("no gateway before it that drops the header"), "{remedy}");
    }
    // Nor does a server start on it.
    patient.cluster.instance(0).stop()?;
    let refused = patient.cluster.instance(0).start();
    let why = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(why.contains("this store is no archive"), "{why}");
    Ok(())
}

#[test]
fn an_upgrade_that_is_not_finished() -> anyhow::Result<()> {
    const NEWER: (&str, &str) = ("MUSTER_TEST_PROGRAM", "level=2,expand,contract");
    let (options, postgres, dir) = Patient::ground()?;
    let env = vec![(NEWER.0.to_owned(), NEWER.1.to_owned())];
    let newer = InstanceOptions { env: env.clone(), ..InstanceOptions::default() };
    let mut cluster = Cluster::build(&options.with(vec![InstanceOptions::default(), newer]))?;
    // A store that an older program made.
    cluster.instance(0).start()?;
    cluster.sign_in()?;
    cluster.instance(0).stop()?;
    cluster.instance(1).start()?;
    let patient = Patient { cluster, postgres, at: 1, env, dir };
    // Through the server only: the doctor beside the stores goes by the migrations of its release, and
    // what is pending here is played.
    let told = findings(&patient.told(None));
    ensure!(told.len() == 1 && told[0]["id"] == "contract-pending", "{told:?}");
    let text = |key: &str| told[0][key].as_str().unwrap_or_default();
    ensure!(text("problem").contains("9002_test_contract"), "{told:?}");
    ensure!(text("remedy").contains("muster migrate contract"), "{told:?}");
    // The remedy is one.
    let mut contract = patient.command();
    contract.args(["migrate", "contract", "--config"]).arg(patient.cluster.config());
    let done = contract.output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found = findings(&patient.told(None));
    ensure!(found.is_empty(), "{found:?}");
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
        // Once it is full nobody more is asked.
        wait_for("all to be asked", SOON, || {
            let stopped = server.metric("muster_stream_stopped")? != 0.0;
            let all = server.coverage(hunt)?.get("recruited") == AGENTS;
            Ok((stopped || all).then_some(()))
        })?;
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
