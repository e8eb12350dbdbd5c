//! From an operator on one instance to agents that are connected to another.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::{Cluster, dying, wait_for};
use muster_types::{Clock, SystemClock};
use reqwest::Certificate;
use serde_json::{Value, json};

use crate::support::{Fleet, SOON, Yard, has_sql};

/// A fleet that knows one instance alone.
fn fleet(cluster: &Cluster, instances: &[usize], args: &[&str]) -> anyhow::Result<Fleet> {
    let access = cluster.access()?;
    let mut command = dying(&muster_testkit::binary()?);
    command.args(["loadgen", "native", "--interval", "1"]);
    for instance in instances {
        command.args(["--server", &cluster.instance(*instance).agents_url()]);
    }
    command.arg("--ca").arg(&access.ca).arg("--secret-file").arg(&access.secret_file).args(args);
    Fleet::spawn(command)
}

/// Somebody who asks an instance, on a connection that stays.
struct Asker {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Asker {
    fn of(cluster: &Cluster, instance: usize) -> anyhow::Result<Self> {
        let access = cluster.access()?;
        let ca = Certificate::from_pem(&std::fs::read(&access.ca)?)?;
        // A thread of its own, so that the connection stays alive between two questions.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok(Self {
            runtime: runtime.worker_threads(1).enable_all().build()?,
            client: reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build()?,
            url: format!("{}/v1/queries", cluster.instance(instance).operators_url()),
            token: access.token.clone(),
        })
    }

    /// Asks one endpoint: its hunt, just before the request, and when it was accepted, in microseconds
    /// since 1970.
    fn ask(&self, endpoint: u64) -> anyhow::Result<(u64, i64, i64)> {
        let body = json!({
            "query": "SELECT pid FROM processes",
            "scope": {"endpoints": [endpoint]},
            "timeout_seconds": 20,
        });
        let request = self.client.post(&self.url).bearer_auth(&self.token).json(&body);
        let sent = now();
        let answer: Value = self.runtime.block_on(async {
            let answer = request.send().await?.error_for_status()?;
            answer.json().await
        })?;
        Ok((answer["no"].as_u64().with_context(|| answer.to_string())?, sent, now()))
    }
}

fn now() -> i64 {
    SystemClock.now().0
}

/// Whether a hunt's task has reached the fleet.
fn came(fleet: &mut Fleet, hunt: u64) -> anyhow::Result<bool> {
    fleet.say("report")?;
    std::thread::sleep(Duration::from_millis(50));
    Ok(fleet.task_time(hunt).is_some())
}

/// Milliseconds at a share of the sorted list.
fn at(sorted: &[i64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1] as f64 / 1e3
}

#[test]
fn a_task_reaches_an_agent_of_another_instance_soon_and_without_hints_in_five_seconds()
-> anyhow::Result<()> {
    const TASKS: usize = 200;
    let mut yard = Yard::start(3)?;
    let options = ["--endpoints", "20", "--canned", "1", "--task-times"];
    let mut agents = fleet(&yard.cluster, &[1], &options)?;
    agents.up(20, 20)?;
    let asker = Asker::of(&yard.cluster, 0)?;
    // Until the asker's instance knows that they are online.
    wait_for("the first task", SOON, || {
        let (hunt, ..) = asker.ask(1)?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(came(&mut agents, hunt)?.then_some(()))
    })?;
    let mut asked = Vec::new();
    for task in 0..TASKS {
        asked.push(asker.ask(1 + task as u64 % 20)?);
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_for("all tasks", SOON, || {
        agents.say("report")?;
        Ok(asked.iter().all(|(hunt, ..)| agents.task_time(*hunt).is_some()).then_some(()))
    })?;
    let times: HashMap<u64, i64> =
        asked.iter().filter_map(|(hunt, ..)| Some((*hunt, agents.task_time(*hunt)?))).collect();
    let sorted = |from: &dyn Fn(&(u64, i64, i64)) -> i64| {
        let mut micros: Vec<i64> = asked.iter().map(|ask| times[&ask.0] - from(ask)).collect();
        micros.sort_unstable();
        micros
    };
    let (sent, accepted) = (sorted(&|ask| ask.1), sorted(&|ask| ask.2));
    println!(
        "{TASKS} tasks, asked on one instance, pushed by another: from the request p50 {:.1} ms, \
         p99 {:.1} ms, max {:.1} ms; from its answer p50 {:.1} ms, p99 {:.1} ms",
        at(&sent, 0.5),
        at(&sent, 0.99),
        at(&sent, 1.0),
        at(&accepted, 0.5),
        at(&accepted, 0.99),
    );

    yard.cut_bus();
    let mut healed = Vec::new();
    for task in 0..9_u64 {
        // Anywhere between two looks.
        std::thread::sleep(Duration::from_millis(task * 370 % 1000));
        let (hunt, _, accepted_at) = asker.ask(1 + task)?;
        let came_at = wait_for("a task without a hint", SOON, || {
            came(&mut agents, hunt)?;
            Ok(agents.task_time(hunt))
        })?;
        healed.push(came_at - accepted_at);
    }
    healed.sort_unstable();
    println!("without the bus: p50 {:.1} ms, max {:.1} ms", at(&healed, 0.5), at(&healed, 1.0));
    // Five seconds are promised, and 50 ms from the request with hints, on an idle machine with
    // optimised code; here are both beside each other.
    ensure!(at(&healed, 1.0) < 15_000.0, "{healed:?}");
    ensure!(at(&accepted, 0.5) * 2.0 < at(&healed, 0.5), "hints are no quicker than looking");
    yard.mend_bus()
}

/// `muster query` on an instance; its rows by endpoint, what it said at last and its exit.
fn query(mut command: Command) -> anyhow::Result<(Vec<Value>, String, Option<i32>)> {
    let output = command
        .args(["query", "SELECT pid FROM processes", "--yes", "--timeout", "45s", "-o", "ndjson"])
        .args(["--with-endpoint"])
        .stdin(Stdio::null())
        .output()?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = out.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((rows.with_context(|| format!("{out}{err}"))?, err, output.status.code()))
}

#[test]
fn a_live_query_shows_every_row_once_though_a_worker_dies_and_hints_are_lost() -> anyhow::Result<()>
{
    const AGENTS: u64 = 90;
    const ROWS: u64 = 200;
    let mut yard = Yard::start(3)?;
    let (agents, rows) = (AGENTS.to_string(), ROWS.to_string());
    let options = ["--endpoints", agents.as_str(), "--canned", rows.as_str()];
    let mut agents = fleet(&yard.cluster, &[0, 1], &options)?;
    agents.up(AGENTS, AGENTS)?;
    let asker = yard.cluster.instance(0);
    wait_for("all agents to be seen by the asker", SOON, || {
        let seen = asker.ok(&["query", "SELECT 1", "--dry-run"])?;
        Ok(seen.contains(&format!("{AGENTS} online")).then_some(()))
    })?;
    let command = asker.command()?;
    let began = Instant::now();
    let asked = std::thread::spawn(move || query(command));
    let sent = |agents: &mut Fleet| -> anyhow::Result<u64> {
        agents.say("report")?;
        Ok(agents.report()["tasks"].as_u64().unwrap_or_default())
    };
    wait_for("the agents to be asked", SOON, || Ok((sent(&mut agents)? > 0).then_some(())))?;
    // It holds a third of the shards; what it has folded and not committed is folded again elsewhere.
    yard.cluster.instance(2).kill();
    yard.cut_bus();
    let (rows, said, code) = asked.join().expect("it only asks")?;
    println!("{} rows in {:?}, exit {code:?}: {said}", rows.len(), began.elapsed());
    let mut seen: BTreeMap<String, HashSet<i64>> = BTreeMap::new();
    for row in &rows {
        let endpoint = row["endpoint"].as_str().context("an endpoint")?;
        let pid = row["pid"].as_i64().context("a pid")?;
        let is_new = seen.entry(endpoint.to_owned()).or_default().insert(pid);
        ensure!(is_new, "row {pid} of {endpoint} came twice");
    }
    if has_sql()? {
        ensure!(code == Some(0) && rows.len() as u64 == AGENTS * ROWS, "{}: {said}", rows.len());
    } else if rows.len() as u64 != AGENTS * ROWS {
        // Without a SQL engine nothing can be read from the store: then it says so.
        ensure!(code == Some(4) && said.contains("not all rows came"), "{said}");
    }
    yard.mend_bus()
}
