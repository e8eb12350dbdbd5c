//! A fleet that is larger than what one process may have open: linked to several instances, and asked.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use muster_testkit::{Cluster, ClusterOptions, Instance, Nats, Postgres, Stores, wait_for};
use reqwest::Method;
use serde_json::json;

use crate::agents::Agents;
use crate::processes;

/// Longest wait for anything.
const LONG: Duration = Duration::from_secs(1800);
/// Rows of each answer.
const ROWS: u64 = 10;

/// How many of what. A process has no more agents than it may have files open, on either side.
#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 7)]
    instances: usize,
    /// Native agents, spread over the instances.
    #[arg(long, default_value_t = 100_000)]
    agents: u32,
    /// Agents of one process of the simulator.
    #[arg(long, default_value_t = 14_500)]
    per_process: u32,
    /// Hunts over all of them.
    #[arg(long, default_value_t = 2)]
    hunts: u32,
}

/// Runs it and prints a line of JSON.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (catalog, nats, folder) = (Postgres::own()?, Nats::start()?, tempfile::tempdir()?);
    let stores = Stores::default()
        .key("catalog", "url", &catalog.database()?)
        .key("archive", "url", &format!("file://{}", folder.path().display()))
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1");
    let cluster = ClusterOptions::new(stores)
        .instances(options.instances)
        .env("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "100000")
        .env("MUSTER_LOG__LEVEL", "error");
    let cluster = Cluster::start(&cluster)?;
    let servers: Vec<u32> = cluster.instances().iter().filter_map(Instance::pid).collect();
    let postgres = catalog.pid().context("PostgreSQL runs")?;
    let before = resident(&servers)?;

    let agents = u64::from(options.agents);
    let (began, spent) = (Instant::now(), processes::cpu(&servers));
    let mut fleets = Vec::new();
    for first in (0..options.agents).step_by(options.per_process.max(1) as usize) {
        let count = options.per_process.min(options.agents - first);
        fleets.push(start(&cluster, first, count, options.agents)?);
    }
    let linked = || -> anyhow::Result<f64> {
        cluster.instances().iter().map(|one| one.metric("muster_gateway_sessions")).sum()
    };
    wait_for("the agents to be linked", LONG, || {
        std::thread::sleep(Duration::from_secs(1));
        Ok((linked()? >= agents as f64).then_some(()))
    })?;
    let linked_in = began.elapsed().as_secs_f64();
    let enrolled = processes::cpu(&servers) - spent;
    std::thread::sleep(Duration::from_secs(20));
    let each = (resident(&servers)? - before) as f64 / agents as f64;
    let idle = during(&servers, || {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    })?;

    for _ in 0..options.hunts {
        let mut hunt = 0;
        let (spent_before, began) = (processes::cpu(&[postgres]), Instant::now());
        let (cpu, seconds) = during(&servers, || {
            hunt = asked(&cluster, agents)?;
            Ok(())
        })?;
        let postgres_cpu = processes::cpu(&[postgres]) - spent_before;
        let visible = match std::env::var_os("MUSTER_BENCH_NO_SQL") {
            Some(_) => None,
            None => Some(rows_in_sql(&cluster, hunt, agents * ROWS, began)?),
        };
        println!(
            "{}",
            json!({
                "bench": "fleet",
                "instances": options.instances,
                "agents": agents,
                "linked_seconds": linked_in.round(),
                "cpu_ms_per_enrolment_and_link": hundredths(enrolled / agents as f64 * 1e3),
                "resident_bytes_per_agent": each.round(),
                "idle_cores": hundredths(idle.0 / idle.1),
                "rows_per_answer": ROWS,
                "hunt_seconds": hundredths(seconds),
                "rows_in_sql_seconds": visible.map(hundredths),
                "server_cpu_us_per_agent": (cpu / agents as f64 * 1e6).round(),
                "postgres_cpu_us_per_agent": hundredths(postgres_cpu / agents as f64 * 1e6),
            })
        );
    }
    Ok(())
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Processor seconds of the servers, and seconds, that something took.
fn during(
    servers: &[u32],
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(f64, f64)> {
    let (before, began) = (processes::cpu(servers), Instant::now());
    work()?;
    Ok((processes::cpu(servers) - before, began.elapsed().as_secs_f64()))
}

/// Bytes of all servers that are not pages of files.
fn resident(servers: &[u32]) -> anyhow::Result<u64> {
    let one = |pid: &u32| -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.context("no RssAnon")? * 1024)
    };
    servers.iter().map(one).sum()
}

/// A hunt over everybody, until each has exactly one outcome; its number.
fn asked(cluster: &Cluster, agents: u64) -> anyhow::Result<u64> {
    let (access, one) = (cluster.access()?, cluster.instance(0));
    let limits = json!({"rate_per_second": 20_000, "canary": 0});
    let asked = json!({"query": "SELECT pid FROM processes", "limits": limits});
    let (status, asked) = access.call(one, Method::POST, "/v1/hunts", Some(&asked))?;
    ensure!(status == 201, "{status}: {asked}");
    let path = format!("/v1/hunts/{}/coverage", asked["no"]);
    wait_for("all to answer", LONG, || {
        std::thread::sleep(Duration::from_millis(200));
        let (_, coverage) = access.call(one, Method::GET, &path, None)?;
        let done = coverage["rows"].as_u64() == Some(agents);
        let exact = coverage["row_count"].as_u64() == Some(agents * ROWS);
        ensure!(!done || exact, "rows are not exact: {coverage}");
        Ok(done.then_some(()))
    })?;
    asked["no"].as_u64().context("a hunt has a number")
}

/// Seconds until SQL counts all rows of a hunt.
fn rows_in_sql(cluster: &Cluster, hunt: u64, rows: u64, began: Instant) -> anyhow::Result<f64> {
    let count = format!("SELECT count(*) AS n FROM hunt_{hunt}");
    wait_for("the rows in SQL", LONG, || {
        let told = cluster.instance(0).ok(&["sql", &count, "-o", "csv"])?;
        let found: Option<u64> = told.lines().nth(1).and_then(|line| line.parse().ok());
        Ok((found == Some(rows)).then_some(()))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

/// One process of the simulator.
fn start(cluster: &Cluster, first: u32, count: u32, all: u32) -> anyhow::Result<Agents> {
    // Together as many new ones a second as two cores can greet.
    let ramp = (600 * count / all.max(1)).max(1).to_string();
    let (first, count, rows) = (first.to_string(), count.to_string(), ROWS.to_string());
    let args = ["--first", &first, "--endpoints", &count, "--canned", &rows, "--ramp", &ramp];
    Agents::start(cluster, &args)
}
