//! The way down, from instance to instance.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use muster_testkit::{Cluster, ClusterOptions, Nats, Postgres, Stores, dying, wait_for};
use serde_json::{Value, json};

use crate::asker::{Asked, Asker};

/// How much of what.
#[derive(Args)]
pub struct Options {
    /// Instances.
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// Agents, all connected to the second instance.
    #[arg(long, default_value_t = 50)]
    agents: u64,
    /// Questions to one agent each.
    #[arg(long, default_value_t = 500)]
    tasks: u64,
    /// Milliseconds between two of them.
    #[arg(long, default_value_t = 20)]
    pause: u64,
}

/// Runs it and prints a line of JSON.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (postgres, nats) = (Postgres::start()?, Nats::start()?);
    let folder = tempfile::tempdir()?;
    let stores = Stores::default()
        .key("catalog", "url", &postgres.database()?)
        .key("archive", "url", &format!("file://{}", folder.path().display()))
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1");
    let cluster = Cluster::start(&ClusterOptions::new(stores).instances(options.instances))?;
    let mut fleet = Fleet::start(&cluster, 1, options.agents)?;
    let asker = Asker::of(&cluster, 0)?;
    wait_for("the agents to be asked", Duration::from_secs(60), || {
        let asked = asker.ask(&[1])?;
        std::thread::sleep(Duration::from_millis(300));
        fleet.report()?;
        Ok(fleet.times().contains_key(&asked.hunt).then_some(()))
    })?;
    let mut asked = Vec::new();
    for task in 0..options.tasks {
        asked.push(asker.ask(&[1 + task % options.agents])?);
        std::thread::sleep(Duration::from_millis(options.pause));
    }
    wait_for("all tasks", Duration::from_secs(60), || {
        fleet.report()?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(asked.iter().all(|asked| fleet.times().contains_key(&asked.hunt)).then_some(()))
    })?;
    let times = fleet.times();
    let from = |start: fn(&Asked) -> i64| {
        let micros = asked.iter().map(|asked| times[&asked.hunt] - start(asked)).collect();
        percentiles(micros)
    };
    println!(
        "{}",
        json!({
            "bench": "delivery",
            "instances": options.instances,
            "agents": options.agents,
            "tasks": options.tasks,
            "from_request_ms": from(|asked| asked.sent),
            "from_answer_ms": from(|asked| asked.accepted),
            "request_ms": percentiles(asked.iter().map(|a| a.accepted - a.sent).collect()),
        })
    );
    Ok(())
}

fn percentiles(mut micros: Vec<i64>) -> Value {
    micros.sort_unstable();
    let at = |share: f64| {
        let rank = (micros.len() as f64 * share).ceil() as usize;
        micros.get(rank.clamp(1, micros.len().max(1)) - 1).map(|micros| *micros as f64 / 1e3)
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}

/// Simulated agents that know one instance.
struct Fleet {
    child: Child,
    stdin: ChildStdin,
    times: Arc<Mutex<HashMap<u64, i64>>>,
}

impl Fleet {
    fn start(cluster: &Cluster, instance: usize, agents: u64) -> anyhow::Result<Self> {
        let access = cluster.access()?;
        let mut command: Command = dying(&muster_testkit::binary()?);
        command.args(["loadgen", "native", "--interval", "1", "--canned", "1", "--task-times"]);
        command.args(["--server", &cluster.instance(instance).agents_url()]);
        command.args(["--endpoints", &agents.to_string()]);
        command.arg("--ca").arg(&access.ca).arg("--secret-file").arg(&access.secret_file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("start muster loadgen")?;
        let stdin = child.stdin.take().context("standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("standard output")?);
        let times: Arc<Mutex<HashMap<u64, i64>>> = Arc::default();
        let kept = Arc::clone(&times);
        let connected: Arc<Mutex<u64>> = Arc::default();
        let seen = Arc::clone(&connected);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let report: Value = serde_json::from_str(&line).unwrap_or_default();
                let found = report["connected"].as_u64().unwrap_or_default();
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
                let mut times = kept.lock().unwrap_or_else(PoisonError::into_inner);
                for (hunt, at) in report["task_times"].as_object().into_iter().flatten() {
                    if let (Ok(hunt), Some(at)) = (hunt.parse(), at[0].as_i64()) {
                        times.entry(hunt).or_insert(at);
                    }
                }
            }
        });
        let mut fleet = Self { child, stdin, times };
        wait_for("the agents to connect", Duration::from_secs(60), || {
            fleet.report()?;
            let up = *connected.lock().unwrap_or_else(PoisonError::into_inner);
            Ok((up == agents).then_some(()))
        })?;
        Ok(fleet)
    }

    fn report(&mut self) -> anyhow::Result<()> {
        writeln!(self.stdin, "report")?;
        ensure!(self.child.try_wait()?.is_none(), "the agents have ended");
        Ok(())
    }

    /// When the tasks came that were reported by now, by hunt.
    fn times(&self) -> HashMap<u64, i64> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
