//! A newer form is not written while a server lives that does not read it.
//!
//! The older server is a row of the catalog, as one of a version from before forms were told leaves it: what
//! it reads is what its row says. Reading what a newer one wrote is refused with a row as well.

use std::process::Command;

use anyhow::Context;
use muster_catalog::{Args, Catalog, Options, Priority, Row, args, statements};
use muster_testkit::{
    Cluster, ClusterOptions, InstanceOptions, Nats, Postgres, Stores, binary, wait_for,
};
use tokio::runtime::Runtime;

use crate::support::{Ask, Fleet, SOON, Told};

const AGENTS: u64 = 20;
const ROWS: u64 = 3;

statements! {
    REGISTER = "INSERT INTO instance (id, incarnation, name, roles, version, level, addresses, load,
            started_at, heartbeat_at, expires_at, facts)
        VALUES ($1, 1, 'db-east', 'api', '0.1.0', 1, '[]', '{}', $2, $2, $3, '{}')";
    EXPIRE = "UPDATE instance SET expires_at = 0 WHERE name = 'db-east'";
    small WRITTEN = "SELECT shard, to_pos, delta FROM shard_delta ORDER BY shard, to_pos";
    RAISE = "UPDATE stored_format SET version = 9, wanted = 9 WHERE name = 'shard-state'";
}

/// The catalog, from beside.
struct Beside {
    runtime: Runtime,
    catalog: Catalog,
}

impl Beside {
    fn open(url: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = Options { connections_max: 2, ..Options::default() };
        let catalog = runtime.block_on(Catalog::open(url, options))?;
        Ok(Self { runtime, catalog })
    }

    fn change(&self, statement: &muster_catalog::Statement, args: Args) -> anyhow::Result<()> {
        let changed = self.catalog.execute(Priority::Lease, statement, args);
        anyhow::ensure!(self.runtime.block_on(changed)? == 1, "one row changes");
        Ok(())
    }

    fn rows(&self, statement: &muster_catalog::Statement) -> anyhow::Result<Vec<Row>> {
        Ok(self.runtime.block_on(self.catalog.fetch_all(statement, args![]))?)
    }

    /// The versions of the changes of states that are in the catalog now.
    fn versions(&self) -> anyhow::Result<Vec<u8>> {
        let first = |row: &Row| {
            let delta: Vec<u8> = row.get("delta")?;
            delta.first().copied().context("a delta begins with its version")
        };
        self.rows(&WRITTEN)?.iter().map(first).collect()
    }
}

fn contract(cluster: &Cluster) -> anyhow::Result<Told> {
    let mut command = Command::new(binary()?);
    command.args(["migrate", "contract", "--config"]).arg(cluster.config());
    Told::by(command, "")
}

#[test]
fn the_state_is_written_with_a_checksum_once_the_last_server_reads_that() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (postgres, nats) = (Postgres::start()?, Nats::start()?);
    let url = postgres.database()?;
    let archive = format!("file://{}", dir.path().join("archive").display());
    let stores = Stores::default()
        .key("catalog", "url", &url)
        .key("archive", "url", &archive)
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1");
    let options = ClusterOptions::new(stores).with(vec![InstanceOptions::default()]);
    // The older one made the catalog: in one that a newer made itself there is nobody to wait for.
    let beside = Beside::open(&url)?;
    beside.runtime.block_on(beside.catalog.migrate())?;
    let cluster = Cluster::start(&options)?;
    let instance = cluster.instance(0);
    let now = beside.runtime.block_on(beside.catalog.now())?;
    let long = now.plus(std::time::Duration::from_secs(3600));
    beside.change(&REGISTER, args![uuid(), now, long])?;

    let (agents, rows) = (AGENTS.to_string(), ROWS.to_string());
    let fleet = cluster.native_agents(&["--endpoints", &agents, "--canned", &rows])?;
    let mut fleet = Fleet::spawn(fleet)?;
    fleet.up(AGENTS, AGENTS)?;
    let ask = || -> anyhow::Result<()> {
        let hunt = instance.hunt(&["--sql", "SELECT pid FROM processes", "--canary", "0"])?;
        let all = instance.covered(hunt, "all answers", |c| c.get("rows") == AGENTS)?;
        anyhow::ensure!(all.sums() && all.get("row_count") == AGENTS * ROWS, "{all:?}");
        Ok(())
    };
    // The first commits of a holder are whole states, the next ones what changed.
    let deltas = |wanted: fn(&[u8]) -> bool| {
        wait_for("states to be written", SOON, || {
            ask()?;
            let found = beside.versions()?;
            Ok(wanted(&found).then_some(found))
        })
    };
    let found = deltas(|found| !found.is_empty())?;
    assert!(found.iter().all(|version| *version <= 2), "{found:?} beside one that reads 2");
    let refused = contract(&cluster)?;
    assert!(refused.code != 0, "{refused:?}");
    let why = "db-east (version 0.1.0, shard-state up to version 2)";
    assert!(refused.err.contains(why), "{refused:?}");
    ask()?;
    assert!(beside.versions()?.iter().all(|version| *version <= 2));

    beside.change(&EXPIRE, args![])?;
    let raised = contract(&cluster)?;
    assert_eq!((raised.code, raised.out.trim()), (0, "shard-state 4"), "{raised:?}");
    deltas(|found| found.contains(&4))?;
    // Both forms are read by the next holder, which is this one after a crash.
    instance.kill();
    instance.start()?;
    wait_for("it to serve", SOON, || Ok((instance.tell(&["whoami"])?.code == 0).then_some(())))?;
    ask()?;

    // Older than what is written: it says so.
    instance.stop()?;
    beside.change(&RAISE, args![])?;
    assert!(instance.start().is_err(), "it starts on a form it does not read");
    let why = "shard-state is written in version 9 here, and this version of muster reads up to 4";
    assert!(instance.log().contains(why), "{}", instance.log());
    Ok(())
}

fn uuid() -> muster_types::InstanceId {
    muster_types::InstanceId("018f0000-0000-7000-8000-000000000009".parse().expect("an id"))
}
