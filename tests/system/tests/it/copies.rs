//! Backup, restore and the move to other stores: real agents go on, and nothing that was counted is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_testkit::{Nats, Postgres, S3, Server, ServerOptions, wait_for};
use serde_json::json;

use crate::support::{Ask, Fleet, Osqueryd, SOON, Told};

const NATIVE: u64 = 30;
const ROWS: u64 = 5;

/// A server whose configuration file can be written anew, with a fleet and one osquery agent.
struct Yard {
    server: Server,
    fleet: Fleet,
    osquery: Osqueryd,
    config: PathBuf,
}

impl Yard {
    fn start() -> anyhow::Result<Self> {
        Self::on("log: {level: info}\n")
    }

    fn on(text: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-copies-").tempdir()?.keep();
        let config = dir.join("muster.yaml");
        std::fs::write(&config, text)?;
        let server = Server::up(ServerOptions {
            env: vec![("MUSTER_AGENTS__ENROLMENTS_PER_SECOND".into(), "5000".into())],
            args: vec!["--no-agent".into(), "--config".into(), config.display().to_string()],
        })?;
        let (native, rows) = (NATIVE.to_string(), ROWS.to_string());
        let mut fleet = Fleet::start(&server, &["--endpoints", &native, "--canned", &rows])?;
        fleet.up(NATIVE, NATIVE)?;
        let osquery = Osqueryd::enrol(&server, "web-1")?;
        Ok(Self { server, fleet, osquery, config })
    }

    /// A hunt that all have answered; its number.
    fn hunt(&self) -> anyhow::Result<u64> {
        let args = ["--sql", "SELECT pid, name FROM processes WHERE pid = 1", "--canary", "0"];
        let hunt = self.server.hunt(&args)?;
        let mut last = None;
        let answered = wait_for("all to answer", SOON, || {
            self.osquery.cycle()?;
            let covered = self.server.coverage(hunt)?;
            let complete = covered.is_complete(NATIVE + 1);
            last = Some(covered);
            Ok(complete.then_some(()))
        });
        answered.with_context(|| {
            let log: Vec<_> = self.server.output().lines().map(str::to_owned).collect();
            let end = log.len().saturating_sub(20);
            format!("hunt {hunt}: {last:?}\n{}", log[end..].join("\n"))
        })?;
        Ok(hunt)
    }

    /// What a person would count.
    fn counts(&self, hunts: &[u64]) -> anyhow::Result<Vec<u64>> {
        let mut counts = vec![
            self.server.list(&["agents"])?.len() as u64,
            self.server.list(&["endpoints"])?.len() as u64,
        ];
        for hunt in hunts {
            let covered = self.server.coverage(*hunt)?;
            counts.extend([covered.get("rows"), covered.get("row_count"), covered.get("ended")]);
        }
        Ok(counts)
    }

    /// Everybody is connected again, and nobody had to enrol or was taken for somebody else.
    fn reconnected(&mut self) -> anyhow::Result<()> {
        self.fleet.up(NATIVE, NATIVE)?;
        assert_eq!(self.fleet.report()["rekeys"], 0, "{}", self.fleet.report());
        let answer = self.osquery.call("config", json!({}))?;
        ensure!(answer["node_invalid"] != true && answer.get("error").is_none(), "{answer}");
        Ok(())
    }

    fn write_config(&self, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.config, text)?)
    }

    /// `muster COMMAND … --config FILE --data DIR`, which must succeed; its standard output.
    fn beside(&self, args: &[&str]) -> anyhow::Result<String> {
        Ok(self.tell_beside(args)?.out)
    }

    /// The same with all that it told.
    fn tell_beside(&self, args: &[&str]) -> anyhow::Result<Told> {
        let (config, data) = (self.config.display().to_string(), self.server.data_dir());
        let data = data.display().to_string();
        let told = self.server.tell(&[args, &["--config", &config, "--data", &data]].concat())?;
        ensure!(told.code == 0, "muster {args:?}: {told:?}");
        Ok(told)
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if let Some(dir) = self.config.parent() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

#[test]
fn a_backup_is_restored_elsewhere_and_agents_reconnect() -> anyhow::Result<()> {
    let mut yard = Yard::start()?;
    let before = yard.hunt()?;
    let counts = yard.counts(&[before])?;
    let backups = yard.server.scratch().join("backups").display().to_string();
    // While it runs.
    yard.beside(&["backup", &backups, "--with-secret-key"])?;
    let after = yard.hunt()?;
    let told = yard.server.tell(&["backup", "verify", &backups])?;
    assert!(told.code == 0 && told.err.contains("are as they were"), "{told:?}");

    let postgres = Postgres::start()?.database()?;
    for (n, config) in
        ["log: {level: info}\n".to_owned(), format!("catalog: {{url: '{postgres}'}}\n")]
            .iter()
            .enumerate()
    {
        yard.server.stop()?;
        let data = yard.server.data_dir();
        std::fs::rename(&data, data.with_extension(format!("lost-{n}")))?;
        yard.write_config(config)?;
        let told = yard.tell_beside(&["restore", &backups])?;
        assert!(told.err.contains("all compared"), "{told:?}");
        let gaps = yard.beside(&["shard", "list"])?;
        assert!(gaps.contains("restored from backup"), "{gaps}");
        yard.server.start()?;
        yard.reconnected()?;
        assert_eq!(yard.counts(&[before])?, counts);
        // It goes on: above the numbers that were given out since, and with a stream of its own.
        let next = yard.hunt()?;
        assert!(next > after + 4000, "hunt {next} after {after}");
        let covered = yard.server.coverage(next)?;
        assert_eq!(covered.get("rows"), NATIVE + 1);
        yard.server.stop()?;
        yard.server.start()?;
        yard.reconnected()?;
    }
    Ok(())
}

#[test]
fn a_backup_of_scaled_stores_under_work_is_restored_on_new_ones() -> anyhow::Result<()> {
    let (postgres, s3) = (Postgres::start()?, S3::start()?);
    let stores = |nats: &Nats, bucket: &str| -> anyhow::Result<String> {
        Ok(format!(
            "catalog: {{url: '{}'}}\nstream: {{url: '{}'}}\nnats: {{replicas: 1}}\n{}",
            postgres.database()?,
            nats.url(),
            s3.config(bucket)?
        ))
    };
    let nats = Nats::start()?;
    let mut yard = Yard::on(&stores(&nats, "first")?)?;
    let before = yard.hunt()?;
    let counts = yard.counts(&[before])?;
    let backups = yard.server.scratch().join("backups").display().to_string();
    yard.beside(&["backup", &backups, "--with-secret-key"])?;
    // The second time only what is new, while a hunt goes on.
    let paced = ["--sql", "SELECT pid FROM processes", "--canary", "0", "--rate", "15"];
    let going_on = yard.server.hunt(&paced)?;
    yard.server.covered(going_on, "some answers", |c| c.get("rows") > 0)?;
    yard.beside(&["backup", &backups, "--with-secret-key"])?;
    let told = yard.server.tell(&["backup", "verify", &backups])?;
    assert!(told.code == 0 && told.err.contains("are as they were"), "{told:?}");

    // Everything is lost: database, streams, bucket and data folder.
    yard.server.kill();
    drop(nats);
    let data = yard.server.data_dir();
    std::fs::rename(&data, data.with_extension("lost"))?;
    let nats = Nats::start()?;
    yard.write_config(&stores(&nats, "second")?)?;
    let told = yard.tell_beside(&["restore", &backups])?;
    assert!(told.err.contains("all compared"), "{told:?}");
    yard.server.start()?;
    yard.reconnected()?;
    assert_eq!(yard.counts(&[before])?, counts);
    if let Some(rows) = yard.server.sql(&format!("SELECT count(*) AS n FROM hunt_{before}"))? {
        assert_eq!(rows, [json!({"n": yard.server.coverage(before)?.get("row_count")})]);
    }
    let next = yard.hunt()?;
    assert!(next > going_on + 4000, "hunt {next} after {going_on}");
    assert_eq!(yard.server.coverage(next)?.get("rows"), NATIVE + 1);
    Ok(())
}

/// Runs `muster migrate-store` and kills it after a while; whether it had ended by itself before.
fn migrate(yard: &Yard, to: &Path, killed_after: Duration) -> anyhow::Result<bool> {
    let mut command: Command = yard.server.command()?;
    let mut child = command
        .args(["migrate-store", "--data"])
        .arg(yard.server.data_dir())
        .arg("--to-config")
        .arg(to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let deadline = std::time::Instant::now() + killed_after;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "migrate-store: {status}");
            return Ok(true);
        }
        if std::time::Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_move_killed_at_any_point_goes_on_and_loses_nothing() -> anyhow::Result<()> {
    let mut yard = Yard::start()?;
    let hunts = [yard.hunt()?, yard.hunt()?];
    let counts = yard.counts(&hunts)?;
    let (s3, nats) = (S3::start()?, Nats::start()?);
    let data = yard.server.data_dir();
    let to = yard.config.with_file_name("scaled.yaml");
    let scaled = format!(
        "data_dir: {}\ncatalog: {{url: '{}'}}\nstream: {{url: '{}'}}\nnats: {{replicas: 1}}\n{}",
        data.display(),
        Postgres::start()?.database()?,
        nats.url(),
        s3.config("moved")?
    );
    std::fs::write(&to, &scaled)?;
    let refused = migrate(&yard, &to, SOON);
    ensure!(refused.is_err(), "it runs: {refused:?}");
    yard.server.stop()?;

    let (mut kills, mut after) = (0, Duration::from_millis(100));
    while !migrate(&yard, &to, after)? {
        kills += 1;
        after = after.mul_f64(1.5);
        ensure!(after < SOON, "it does not end");
    }
    println!("killed {kills} times");
    // Once more changes nothing.
    ensure!(migrate(&yard, &to, SOON)?, "it does not end");

    let old = yard.server.command()?.args(["server", "--data"]).arg(&data).output()?;
    let told = String::from_utf8_lossy(&old.stderr).into_owned();
    ensure!(!old.status.success() && told.contains("was moved to"), "{told}");

    yard.write_config(&scaled)?;
    yard.server.start().context("start on the new stores")?;
    yard.reconnected()?;
    assert_eq!(yard.counts(&hunts)?, counts);
    let next = yard.hunt()?;
    assert_eq!(yard.server.coverage(next)?.get("rows"), NATIVE + 1);
    Ok(())
}
