//! Processes whose time stops past their lease, and goes on: no harm.
//!
//! Folding, dispatch, the asking of labels' rules and compaction, through the real program. That whoever
//! comes too late is refused by what it writes, and not only by its own clock, is also shown at the doors
//! of the crates (`muster-intake`, `muster-inventory`), where every moment can be chosen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use muster_testkit::{Cluster, ClusterOptions, InstanceOptions, Nats, Postgres, Stores, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ask, Fleet, SOON, has_sql};

const AGENTS: u64 = 80;
const ROWS: u64 = 40;

struct World {
    fleet: Fleet,
    cluster: Cluster,
    postgres: &'static Postgres,
    /// The catalog's.
    database: String,
    _nats: Nats,
    dir: TempDir,
}

impl World {
    /// An instance that nobody stops, and two with this role.
    fn start(front: &str, two: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-zombies-").tempdir()?;
        let nats = Nats::start()?;
        let postgres = Postgres::start()?;
        let url = postgres.database()?;
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        let stores = Stores::default()
            .key("catalog", "url", &url)
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
        Ok(Self { fleet, cluster, postgres, database, _nats: nats, dir })
    }

    /// What a SELECT in the catalog answers: `a|b`.
    fn catalog(&self, sql: &str) -> anyhow::Result<String> {
        Ok(self.postgres.sql_in(&self.database, sql)?.trim().to_owned())
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

    /// Which of the two with the role holds the one lease of a job.
    fn holder(&self, job: &str) -> anyhow::Result<usize> {
        wait_for("somebody to hold it", SOON, || {
            let one = self.held(job, 1)? == 1;
            Ok((one || self.held(job, 2)? == 1).then_some(if one { 1 } else { 2 }))
        })
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

/// Processes that this one has started and that live.
fn children(pid: u32) -> anyhow::Result<usize> {
    let of = |task: &Path| std::fs::read_to_string(task.join("children")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(tasks.flatten().map(|task| of(&task.path()).split_whitespace().count()).sum())
}

#[test]
fn a_rule_that_a_stopped_scheduler_had_asked_is_applied_once() -> anyhow::Result<()> {
    if !has_sql()? {
        eprintln!("skipped, there is no SQL engine in MUSTER_BIN");
        return Ok(());
    }
    let mut world = World::start("frontend,api,worker", "scheduler")?;
    let hunt = world.hunt("400")?;
    world.exact(hunt)?;
    let zombie = world.holder("schedule")?;
    let other = 3 - zombie;
    let (front, stopped) = (world.cluster.instance(0), world.cluster.instance(zombie));
    for label in ["asked", "hinting"] {
        front.ok(&["label", "create", label])?;
    }
    let history = || front.list(&["label", "rule", "history", "asked"]);
    let rule = format!("SELECT endpoint FROM hunt_{hunt}");
    front.ok(&["label", "rule", "set", "asked", &rule])?;
    // Its time stops while a child of its own, whose time goes on, looks for the answer.
    let pid = stopped.pid().context("it runs")?;
    wait_for("the rule to be asked", SOON, || Ok((children(pid)? > 0).then_some(())))?;
    stopped.pause()?;
    wait_for("its lease to be taken over", SOON, || {
        Ok((world.held("schedule", other)? == 1).then_some(()))
    })?;
    let asked = front.json(&["label", "rule", "show", "asked"])?;
    ensure!(asked["evaluated_at"].is_null() && history()?.is_empty(), "too late: {asked}");
    // A new rule is a hint to ask all that have no answer yet.
    front.ok(&["label", "rule", "set", "hinting", &rule])?;
    wait_for(
        "the other one to apply the rule",
        SOON,
        || Ok((history()?.len() == 1).then_some(())),
    )?;
    let epoch =
        "SELECT epoch FROM label_rule JOIN label ON label.no = label_no WHERE name = 'asked'";
    let written = world.catalog(epoch)?;
    stopped.resume()?;
    wait_for("its child to end", SOON, || Ok((children(pid)? == 0).then_some(())))?;
    wait_for("its share again", SOON, || Ok((world.held("dispatch", zombie)? == 8).then_some(())))?;

    let told = history()?;
    let counts = |key: &str| told.iter().map(|one| one[key].as_u64()).collect::<Vec<_>>();
    ensure!(counts("added_count") == [Some(AGENTS)], "{told:?}");
    ensure!(counts("removed_count") == [Some(0)], "{told:?}");
    let asked = front.json(&["label", "rule", "show", "asked"])?;
    ensure!(asked["error"].is_null() && !asked["evaluated_at"].is_null(), "{asked}");
    let members = world.catalog(
        "SELECT count(*) FROM label_endpoint JOIN label ON no = label_no
         WHERE name = 'asked' AND removed_at IS NULL",
    )?;
    ensure!(members == AGENTS.to_string(), "{members} carry the label");
    // Whoever wrote since holds a later lease, never the one that is over.
    let since = world.catalog(epoch)?;
    ensure!(since.parse::<u64>()? >= written.parse()?, "{since} after {written}");
    Ok(())
}

/// How often a compaction may be quicker than the signal that is to stop it.
const TRIES: usize = 12;

/// A compaction that was stopped between its object and its commit.
struct Stopped {
    hunt: u64,
    /// Where its instance is.
    zombie: usize,
    /// The object's name.
    object: String,
}

impl World {
    /// Segments in the archive, those that are being written among them.
    fn segments(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let mut all = BTreeSet::new();
        for day in std::fs::read_dir(self.dir.path().join("archive/seg/v1"))? {
            let entries = std::fs::read_dir(day?.path())?;
            all.extend(entries.flatten().map(|entry| entry.path()));
        }
        Ok(all)
    }

    /// Parts of a hunt's table, and their rows, as the manifest has them.
    fn parts(&self, hunt: u64, which: &str) -> anyhow::Result<(u64, u64)> {
        let found = self.catalog(&format!(
            "SELECT count(*), coalesce(sum(row_count), 0) FROM segment_part
             WHERE table_name = 'hunt_{hunt}' AND {which}"
        ))?;
        let (parts, rows) = found.split_once('|').context("two columns")?;
        Ok((parts.parse()?, rows.parse()?))
    }

    /// Stops the time of whoever compacts when the object it makes of a hunt's parts appears.
    fn stop_a_compaction(&mut self) -> anyhow::Result<Stopped> {
        let mut tries = 0;
        // A busy machine flushes less often, and such small numbers of parts are left alone: no try.
        for _ in 0..5 * TRIES {
            let hunt = self.hunt("8")?;
            self.exact(hunt)?;
            let flushed = self.parts(hunt, "level = 0")?;
            ensure!(flushed.1 == AGENTS * ROWS, "{flushed:?}");
            if flushed.0 < 8 {
                continue;
            }
            if tries == TRIES {
                break;
            }
            tries += 1;
            let zombie = self.holder("compact")?;
            let before = self.segments()?;
            // Flushes are left alone for five minutes.
            self.catalog(&format!(
                "UPDATE segment SET created_at = created_at - 600000000 WHERE object IN
                     (SELECT object FROM segment_part WHERE table_name = 'hunt_{hunt}')"
            ))?;
            let deadline = Instant::now() + SOON;
            let new = loop {
                if let Some(new) = self.segments()?.difference(&before).next() {
                    break new.clone();
                }
                ensure!(Instant::now() < deadline, "nobody compacts");
                // Between object and commit are some milliseconds.
                std::thread::sleep(Duration::from_micros(100));
            };
            self.cluster.instance(zombie).pause()?;
            // What it had begun in the catalog, PostgreSQL ends after five seconds; so long no one can
            // tell whether it came to its commit.
            std::thread::sleep(Duration::from_millis(500));
            let begun = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'
                     AND state LIKE 'idle in%' AND state_change < now() - interval '400 ms'",
                self.database
            );
            let was_quicker = self.parts(hunt, "level = 0")? != flushed;
            if !was_quicker && self.catalog(&begun)? == "0" {
                let root = self.dir.path().join("archive");
                let name = new.strip_prefix(&root)?.to_string_lossy();
                // While it is written it has a number after its name.
                let object = name.split('#').next().unwrap_or_default().to_owned();
                return Ok(Stopped { hunt, zombie, object });
            }
            self.cluster.instance(zombie).resume()?;
        }
        bail!("none of {tries} compactions was stopped between its object and its commit")
    }
}

#[test]
fn a_compaction_that_was_stopped_past_its_lease_neither_loses_nor_doubles_rows()
-> anyhow::Result<()> {
    let mut world = World::start("frontend,api,scheduler", "worker")?;
    wait_for("halves", SOON, || Ok((world.held("shards", 1)? == 32).then_some(())))?;
    let Stopped { hunt, zombie, object } = world.stop_a_compaction()?;
    let other = 3 - zombie;
    wait_for("its lease to be taken over", SOON, || {
        Ok((world.held("compact", other)? == 1).then_some(()))
    })?;
    wait_for("the other one to do its work", SOON, || {
        Ok((world.parts(hunt, "level = 0")?.0 == 0).then_some(()))
    })?;
    let whole = (1, AGENTS * ROWS);
    let merged = world.parts(hunt, "level > 0")?;
    ensure!(merged == whole, "{merged:?}");
    world.cluster.instance(zombie).resume()?;
    // A rewrite that comes too late takes its object along; one of a flush would stay.
    wait_for("nothing of its object to be left", SOON, || {
        let left = world.segments()?;
        let is = |path: &PathBuf| path.to_string_lossy().contains(&object);
        Ok((!left.iter().any(is)).then_some(()))
    })?;
    wait_for("its shards again", SOON, || Ok((world.held("shards", zombie)? == 32).then_some(())))?;

    let merged = world.parts(hunt, "true")?;
    ensure!(merged == whole, "{merged:?}");
    let taken =
        world.catalog(&format!("SELECT count(*) FROM segment WHERE object = '{object}'"))?;
    ensure!(taken == "0", "the manifest names what came too late");
    let count = format!("SELECT count(*) AS n, count(DISTINCT agent) AS a FROM hunt_{hunt}");
    if let Some(rows) = world.cluster.instance(0).sql(&count)? {
        let counts = (rows[0]["n"].as_u64(), rows[0]["a"].as_u64());
        ensure!(counts == (Some(AGENTS * ROWS), Some(AGENTS)), "{rows:?}");
    }
    // It is of use again.
    let after = world.hunt("80")?;
    world.exact(after)?;
    Ok(())
}
