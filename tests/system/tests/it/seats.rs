//! Several copies from one file on one host, pins that clash, and stores that serve one process.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use muster_testkit::{
    Cluster, ClusterOptions, Nats, Postgres, Server, ServerOptions, Stores, binary, dying,
    steady_port, steady_ports, wait_for,
};

use crate::support::{Ask, SOON};

/// A copy as it is told: name, id, addresses.
type Copy = (String, String, String);

/// Three ranges of ports that are free, none of which overlap.
fn ranges(each: u16) -> anyhow::Result<[String; 3]> {
    let first = steady_ports(3 * each)?;
    let from = |n: u16| first + n * each;
    Ok([0, 1, 2].map(|n| format!("127.0.0.1:{}-{}", from(n), from(n + 1) - 1)))
}

fn stores(dir: &Path, nats: &Nats) -> anyhow::Result<Stores> {
    Ok(Stores::default()
        .key("catalog", "url", &Postgres::start()?.database()?)
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1")
        .key("archive", "url", &format!("file://{}", dir.join("archive").display())))
}

#[test]
fn three_copies_from_one_file() -> anyhow::Result<()> {
    let (dir, nats) = (tempfile::tempdir()?, Nats::start()?);
    let options = ClusterOptions::new(stores(dir.path(), &nats)?).instances(1);
    // The first instance makes the administrator and stays; the copies are beside it.
    let cluster = Cluster::start(&options)?;
    let data = dir.path().join("data");
    let [operators, agents, metrics] = ranges(3)?;
    let start = || {
        let mut command = dying(&binary()?);
        command
            .args(["server", "--roles", "worker,api", "--config"])
            .arg(cluster.config())
            .env("MUSTER_DATA_DIR", &data)
            .env("MUSTER_LISTENERS__OPERATORS", &operators)
            .env("MUSTER_LISTENERS__AGENTS", &agents)
            .env("MUSTER_LISTENERS__METRICS", &metrics)
            .env("MUSTER_INSTANCE__NAME", "copy")
            .env("MUSTER_LOG__LEVEL", "warn")
            .stdin(Stdio::null());
        command.spawn().context("start a copy")
    };
    let mut copies = [start()?, start()?, start()?];
    let first = cluster.instance(0);
    let alive = || -> anyhow::Result<BTreeSet<Copy>> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let told = first.list(&["instances"])?;
        let is_copy = |one: &&serde_json::Value| {
            one["state"] == "alive" && one["name"].as_str().is_some_and(|n| n.starts_with("copy"))
        };
        let copy = |one: &serde_json::Value| {
            (text(&one["name"]), text(&one["id"]), text(&one["addresses"]))
        };
        Ok(told.iter().filter(is_copy).map(copy).collect())
    };
    let three = wait_for("three copies", SOON, || {
        let alive = alive()?;
        Ok((alive.len() == 3).then_some(alive))
    })?;
    let names: BTreeSet<_> = three.iter().map(|copy| copy.0.as_str()).collect();
    let ids: BTreeSet<_> = three.iter().map(|copy| &copy.1).collect();
    let doors: BTreeSet<_> = three.iter().map(|copy| &copy.2).collect();
    ensure!(names == BTreeSet::from(["copy", "copy-2", "copy-3"]), "{three:?}");
    ensure!(ids.len() == 3 && doors.len() == 3, "{three:?}");
    wait_for("work for everybody", SOON, || {
        let told = first.list(&["instances", "--shards"])?;
        let holders = told.iter().filter_map(|shard| shard["holder"].as_str());
        Ok((holders.collect::<BTreeSet<_>>().len() == 4).then_some(()))
    })?;
    // One that is killed and started again is who it was.
    copies[1].kill()?;
    copies[1].wait()?;
    copies[1] = start()?;
    let same = wait_for("the same three", SOON, || Ok((alive()? == three).then_some(())));
    for copy in &mut copies {
        copy.kill()?;
        copy.wait()?;
    }
    same
}

#[test]
fn pins_that_clash_are_refused_at_the_start() -> anyhow::Result<()> {
    let (dir, nats) = (tempfile::tempdir()?, Nats::start()?);
    let options = ClusterOptions::new(stores(dir.path(), &nats)?).env("MUSTER_PINS__SHARDS", "2/3");
    let mut cluster = Cluster::build(&options)?;
    cluster.instance(0).start()?;
    cluster.sign_in()?;
    let told = cluster.instance(0).list(&["instances", "--shards"])?;
    let held = told.iter().filter(|shard| shard["holder"].is_string()).count();
    ensure!(held == 21, "{held} shards are held");
    cluster.instance(1).launch()?;
    let ended = wait_for("the second one to be refused", SOON, || cluster.instance(1).ended())?;
    let said = cluster.instance(1).log();
    println!("{said}");
    ensure!(ended.code() == Some(1), "{ended}: {said}");
    ensure!(said.contains("pins.shards is 2/3 there and here"), "{said}");
    Ok(())
}

/// A second server on other ports.
fn second(data: &Path) -> anyhow::Result<Command> {
    let mut command = dying(&binary()?);
    let ports = [steady_port()?, steady_port()?, steady_port()?];
    for (name, port) in ["OPERATORS", "AGENTS", "METRICS"].iter().zip(ports) {
        command.env(format!("MUSTER_LISTENERS__{name}"), format!("127.0.0.1:{port}"));
    }
    command.arg("server").arg("--data").arg(data).stdin(Stdio::null());
    Ok(command)
}

/// What it says when it is refused.
fn refused(mut command: Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    println!("{said}");
    Ok(said)
}

#[test]
fn a_second_process_on_embedded_stores_is_told_what_to_do() -> anyhow::Result<()> {
    let quiet = || vec!["--no-agent".to_owned()];
    let server = Server::up(ServerOptions { args: quiet(), ..ServerOptions::default() })?;
    let same = refused(second(&server.data_dir())?)?;
    let pid = format!("process {}", server.pid().context("it runs")?);
    for part in [pid.as_str(), "SQLite", "PostgreSQL", "NATS"] {
        ensure!(same.contains(part), "{part}: {same}");
    }
    // Another data folder, the same SQLite file.
    let other = tempfile::tempdir()?;
    let mut command = second(other.path())?;
    let store = server.data_dir().join("catalog.db");
    command.env("MUSTER_CATALOG__URL", format!("sqlite://{}", store.display()));
    let shared = refused(command)?;
    ensure!(shared.contains(&pid) && shared.contains("in use"), "{shared}");
    // One that shares a PostgreSQL but has a stream of its own.
    let catalog = Postgres::start()?.database()?;
    let env = vec![("MUSTER_CATALOG__URL".to_owned(), catalog.clone())];
    let lonely = Server::up(ServerOptions { env, args: quiet() })?;
    let third = tempfile::tempdir()?;
    let mut command = second(third.path())?;
    command.env("MUSTER_CATALOG__URL", &catalog);
    command.env("MUSTER_TLS__SECRET_KEY_FILE", lonely.data_dir().join("secret.key"));
    let began = Instant::now();
    let beside = refused(command)?;
    ensure!(beside.contains("embedded log") && beside.contains("is alive"), "{beside}");
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    Ok(())
}
