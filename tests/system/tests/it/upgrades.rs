//! An older and a newer server side by side on one catalog.
//!
//! The newer one is the same program, which debug builds let play the next release: a level more and a
//! migration of each kind more (`MUSTER_TEST_PROGRAM`). What is shown is how two levels live together, not
//! how two releases differ; statements of real releases are kept and tested in the catalog's crate.

use std::process::Command;

use anyhow::Context;
use muster_testkit::{
    Cluster, ClusterOptions, Instance, InstanceOptions, Nats, Postgres, Stores, binary, wait_for,
};
use serde_json::Value;

use crate::support::{Ask, Fleet, SOON, Told};

const NEWER: (&str, &str) = ("MUSTER_TEST_PROGRAM", "level=2,expand,contract");
const AGENTS: u64 = 20;
const ROWS: u64 = 3;

/// `muster migrate …` as the older or the newer program.
fn migrate(cluster: &Cluster, newer: bool, what: &str) -> anyhow::Result<Told> {
    let mut command = Command::new(binary()?);
    command.args(["migrate", what, "--config"]).arg(cluster.config()).args(["-o", "json"]);
    if newer {
        command.env(NEWER.0, NEWER.1);
    }
    Told::by(command, "")
}

fn states(told: &Told) -> anyhow::Result<Vec<(String, String)>> {
    let rows: Vec<Value> = serde_json::from_str(&told.out).with_context(|| format!("{told:?}"))?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = rows.iter().filter(|row| text(row, "migration").starts_with('9'));
    Ok(rows.map(|row| (text(row, "migration"), text(row, "state"))).collect())
}

/// A newcomer gets its share of the limits on requests with its first rounds.
fn serves(instance: &Instance) -> anyhow::Result<()> {
    wait_for("an instance to serve", SOON, || {
        Ok((instance.tell(&["whoami"])?.code == 0).then_some(()))
    })
}

fn pair(one: &str, two: &str) -> Vec<(String, String)> {
    let row = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    vec![row("9001_test_expand", one), row("9002_test_contract", two)]
}

#[test]
fn an_older_and_a_newer_server_side_by_side() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (postgres, nats) = (Postgres::start()?, Nats::start()?);
    let archive = format!("file://{}", dir.path().join("archive").display());
    let stores = Stores::default()
        .key("catalog", "url", &postgres.database()?)
        .key("archive", "url", &archive)
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1");
    let newer = InstanceOptions {
        env: vec![(NEWER.0.into(), NEWER.1.into())],
        ..InstanceOptions::default()
    };
    let options = ClusterOptions::new(stores).with(vec![InstanceOptions::default(), newer]);
    let mut cluster = Cluster::build(&options)?;
    let (old, new) = (0, 1);
    cluster.instance(old).start()?;
    cluster.sign_in()?;
    let before = migrate(&cluster, true, "status")?;
    assert_eq!(states(&before)?, pair("missing", "missing"));

    // The newer one expands when it starts; the older one goes on.
    cluster.instance(new).start()?;
    let (agents, rows) = (AGENTS.to_string(), ROWS.to_string());
    let command = cluster.native_agents(&["--endpoints", &agents, "--canned", &rows])?;
    let mut fleet = Fleet::spawn(command)?;
    fleet.up(AGENTS, AGENTS)?;
    let question = ["--sql", "SELECT pid FROM processes", "--canary", "0"];
    for instance in cluster.instances() {
        serves(instance)?;
        let hunt = instance.hunt(&question)?;
        let all = instance.covered(hunt, "all answers", |c| c.get("rows") == AGENTS)?;
        assert!(all.sums() && all.get("row_count") == AGENTS * ROWS, "{all:?}");
        instance.ok(&["label", "create", &format!("by-{}", instance.name())])?;
    }
    let seen = migrate(&cluster, false, "status")?;
    assert_eq!(states(&seen)?, [("9001_test_expand".into(), "applied by a newer version".into())]);

    // Also when it starts again.
    cluster.instance(old).stop()?;
    cluster.instance(old).start()?;
    serves(cluster.instance(old))?;
    wait_for("both to be seen", SOON, || {
        let listed = cluster.instance(new).list(&["instances"])?;
        let alive = listed.iter().filter(|one| one["alive"] == true).count();
        Ok((alive == 2).then_some(()))
    })?;

    // Nothing is taken away while it lives.
    let refused = migrate(&cluster, true, "contract")?;
    assert!(refused.code != 0, "{refused:?}");
    assert!(refused.err.contains("level 2, and these are older"), "{refused:?}");
    assert!(refused.err.contains("level 1)"), "{refused:?}");
    cluster.instance(old).stop()?;
    let done = migrate(&cluster, true, "contract")?;
    let applied: Value = serde_json::from_str(&done.out).with_context(|| format!("{done:?}"))?;
    assert_eq!((done.code, &applied[0]["name"]), (0, &"9002_test_contract".into()), "{done:?}");

    // And from then on it is refused.
    let refused = migrate(&cluster, false, "status")?;
    assert!(refused.err.contains("asks for programs of level 2"), "{refused:?}");
    assert!(cluster.instance(old).start().is_err(), "an older server starts on a contracted store");
    assert!(cluster.instance(old).log().contains("asks for programs of level 2"));
    let hunt = cluster.instance(new).hunt(&question)?;
    cluster.instance(new).covered(hunt, "all answers", |c| c.get("rows") == AGENTS)?;
    Ok(())
}
