//! Processes whose time stops past their lease, and goes on: no harm.
//!
//! Workers and dispatchers are shown here, through the real program. A compaction and a label's rule are
//! shown at their crates' doors (`muster-intake`, `muster-inventory`), where the moment can be chosen.

use std::time::Duration;

use anyhow::{Context, ensure};
use muster_testkit::{Cluster, ClusterOptions, InstanceOptions, Nats, Postgres, Stores, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ask, Fleet, SOON};

const AGENTS: u64 = 80;
const ROWS: u64 = 40;

struct World {
    fleet: Fleet,
    cluster: Cluster,
    _nats: Nats,
    _dir: TempDir,
}

impl World {
    /// An instance that nobody stops, and two with this role.
    fn start(front: &str, two: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-zombies-").tempdir()?;
        let nats = Nats::start()?;
        let stores = Stores::default()
            .key("catalog", "url", &Postgres::start()?.database()?)
            .key("stream", "url", &nats.url())
            .key("nats", "replicas", "1")
            .key("archive", "url", &format!("file://{}", dir.path().join("archive").display()));
        let roles = [front, two, two].map(InstanceOptions::roles);
        let options =
            ClusterOptions::new(stores).with(roles.into()).env("MUSTER_LOG__LEVEL", "warn");
        let cluster = Cluster::start(&options)?;
        let (agents, rows) = (AGENTS.to_string(), ROWS.to_string());
        let fleet = cluster.native_agents(&["--endpoints", &agents, "--canned", &rows])?;
        let mut fleet = Fleet::spawn(fleet)?;
        fleet.up(AGENTS, AGENTS)?;
        wait_for("everybody to be seen", SOON, || {
            let agents = cluster.instance(0).list(&["agents"])?;
            let online = agents.iter().filter(|agent| agent["online"] == true).count() as u64;
            Ok((online == AGENTS).then_some(()))
        })?;
        Ok(Self { fleet, cluster, _nats: nats, _dir: dir })
    }

    /// Leases of a job, by the place of their holder among those that live.
    fn held(&self, job: &str, instance: usize) -> anyhow::Result<u64> {
        let url = self.cluster.instance(instance).addresses()[2].to_string();
        let told = self.cluster.instance(0).list(&["instances"])?;
        let one = told.iter().find(|one| one["listeners"]["metrics"][0] == url.as_str());
        let one = one.with_context(|| format!("{url}: {told:?}"))?;
        let leases = one["leases"].as_array().cloned().unwrap_or_default();
        let lease = leases.iter().find(|lease| lease["job"] == job);
        Ok(lease.and_then(|lease| lease["partitions"].as_u64()).unwrap_or(0))
    }

    fn hunt(&self, rate: &str) -> anyhow::Result<u64> {
        let question = ["--sql", "SELECT pid FROM processes", "--canary", "0", "--rate", rate];
        self.cluster.instance(0).hunt(&question)
    }

    /// Each endpoint was recruited once, answered once, and every row that an agent was told of is there
    /// once.
    fn exact(&mut self, hunt: u64) -> anyhow::Result<Value> {
        let asked = self.cluster.instance(0);
        let all = asked.covered(hunt, "all answers", |c| c.is_complete(AGENTS))?;
        ensure!(all.sums() && all.get("row_count") == AGENTS * ROWS, "{all:?}");
        ensure!(all.get("recruited") == AGENTS, "{all:?}");
        let acked = self.fleet.acked(hunt, AGENTS)?;
        ensure!(acked == AGENTS * ROWS, "{acked} rows were acknowledged");
        Ok(Value::Null)
    }

    /// Stops an instance's time until all its leases of a job are the other's, then lets it go on.
    fn stop_past_its_lease(
        &self,
        instance: usize,
        other: usize,
        job: &str,
        all: u64,
    ) -> anyhow::Result<()> {
        self.cluster.instance(instance).pause()?;
        wait_for("its leases to be taken over", SOON, || {
            Ok((self.held(job, other)? == all).then_some(()))
        })?;
        // A little longer, so that the other one is in the middle of its work.
        std::thread::sleep(Duration::from_millis(700));
        self.cluster.instance(instance).resume()
    }
}

#[test]
fn a_worker_that_was_stopped_past_its_lease_changes_nothing() -> anyhow::Result<()> {
    let mut world = World::start("frontend,api,scheduler", "worker")?;
    wait_for("halves", SOON, || Ok((world.held("shards", 1)? == 32).then_some(())))?;
    // Rows are on their way while it stops, while the other one folds them again, and when it goes on.
    let hunts = [world.hunt("40")?, world.hunt("8")?];
    world.cluster.instance(0).covered(hunts[0], "the first rows", |c| c.get("rows") > 0)?;
    world.stop_past_its_lease(1, 2, "shards", 64)?;
    let late = world.hunt("60")?;
    for hunt in [hunts[0], hunts[1], late] {
        world.exact(hunt)?;
    }
    // It is of use again.
    wait_for("halves again", SOON, || Ok((world.held("shards", 1)? == 32).then_some(())))?;
    let after = world.hunt("80")?;
    world.exact(after)?;
    Ok(())
}

#[test]
fn a_scheduler_that_was_stopped_past_its_lease_recruits_nobody_twice() -> anyhow::Result<()> {
    let mut world = World::start("frontend,api,worker", "scheduler")?;
    wait_for("halves", SOON, || Ok((world.held("dispatch", 1)? == 8).then_some(())))?;
    // Enough hunts that the stopped one holds some of them, slow enough that they outlast its lease.
    let hunts = (0..6).map(|_| world.hunt("4")).collect::<anyhow::Result<Vec<_>>>()?;
    for hunt in &hunts {
        world.cluster.instance(0).covered(*hunt, "the first rows", |c| c.get("rows") > 0)?;
    }
    world.stop_past_its_lease(1, 2, "dispatch", 16)?;
    for hunt in hunts {
        world.exact(hunt)?;
    }
    Ok(())
}
