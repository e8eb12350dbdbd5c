//! What one PostgreSQL carries: its processor time for an instance that idles, an enrolment, agents that
//! are linked, and endpoints that answer a hunt.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use muster_testkit::{Cluster, ClusterOptions, Nats, Postgres, Stores, wait_for};
use reqwest::Method;
use serde_json::{Value, json};

use crate::agents::Agents;
use crate::processes;

/// How much of what.
#[derive(Args)]
pub struct Options {
    /// The most instances; each number up to it is measured.
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// Native agents, spread over the instances.
    #[arg(long, default_value_t = 6000)]
    agents: u64,
    /// Hunts over all of them.
    #[arg(long, default_value_t = 3)]
    hunts: u64,
    /// Seconds of each look at what idles.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Runs it and prints a line of JSON for each number of instances.
pub fn run(options: &Options) -> anyhow::Result<()> {
    for instances in 1..=options.instances {
        println!("{}", measured(options, instances)?);
    }
    Ok(())
}

/// The PostgreSQL whose time is taken.
struct Watched {
    pid: u32,
    /// Processor seconds per second when nothing is asked of it but to be there.
    idle: f64,
}

impl Watched {
    fn cpu(&self) -> f64 {
        processes::cpu(&[self.pid])
    }

    /// Processor seconds per second over a while.
    fn rate(&self, seconds: u64) -> f64 {
        let (before, began) = (self.cpu(), Instant::now());
        std::thread::sleep(Duration::from_secs(seconds));
        (self.cpu() - before) / began.elapsed().as_secs_f64()
    }

    /// Processor seconds and seconds that something took, without what it takes to be there.
    fn during(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<(f64, f64)> {
        let (before, began) = (self.cpu(), Instant::now());
        work()?;
        let seconds = began.elapsed().as_secs_f64();
        Ok((self.cpu() - before - self.idle * seconds, seconds))
    }
}

fn measured(options: &Options, instances: usize) -> anyhow::Result<Value> {
    let (catalog, nats, folder) = (Postgres::own()?, Nats::start()?, tempfile::tempdir()?);
    let stores = Stores::default()
        .key("catalog", "url", &catalog.database()?)
        .key("archive", "url", &format!("file://{}", folder.path().display()))
        .key("stream", "url", &nats.url())
        .key("nats", "replicas", "1");
    let cluster = ClusterOptions::new(stores)
        .instances(instances)
        .env("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "100000")
        .env("MUSTER_LOG__LEVEL", "error");
    let cluster = Cluster::start(&cluster)?;
    let mut postgres = Watched { pid: catalog.pid().context("PostgreSQL runs")?, idle: 0.0 };
    // What starts settles first: leases, the sweep, the first look at everything.
    std::thread::sleep(Duration::from_secs(10));
    postgres.idle = postgres.rate(options.seconds);

    let agents = options.agents;
    let linked = || -> anyhow::Result<f64> {
        cluster.instances().iter().map(|one| one.metric("muster_gateway_sessions")).sum()
    };
    let mut fleet = None;
    let (enrolled, enrolled_in) = postgres.during(|| {
        fleet =
            Some(Agents::start(&cluster, &["--endpoints", &agents.to_string(), "--canned", "10"])?);
        wait_for("the agents to be linked", Duration::from_secs(300), || {
            std::thread::sleep(Duration::from_millis(100));
            Ok((linked()? >= agents as f64).then_some(()))
        })
    })?;
    std::thread::sleep(Duration::from_secs(5));
    let held = postgres.rate(options.seconds);

    let (hunted, hunted_in) = postgres.during(|| {
        for _ in 0..options.hunts {
            hunt(&cluster, agents)?;
        }
        Ok(())
    })?;
    let each =
        |seconds: f64, count: u64| (seconds * 1e6 / count.max(1) as f64 * 10.0).round() / 10.0;
    let share = |rate: f64| (rate * 1e5).round() / 1e3;
    Ok(json!({
        "bench": "catalog",
        "instances": instances,
        "agents": agents,
        "idle_percent_of_a_core": share(postgres.idle),
        "enrolment_us": each(enrolled, agents),
        "enrolments_per_second": (agents as f64 / enrolled_in).round(),
        "agents_linked_percent_of_a_core": share(held),
        "hunt_us_per_endpoint": each(hunted, agents * options.hunts),
        "hunt_seconds": (hunted_in / options.hunts as f64 * 10.0).round() / 10.0,
    }))
}

/// A hunt over everybody, until all have answered with ten rows.
fn hunt(cluster: &Cluster, agents: u64) -> anyhow::Result<()> {
    let (access, one) = (cluster.access()?, cluster.instance(0));
    let asked = json!({"query": "SELECT pid FROM processes", "limits": {"rate_per_second": 20_000, "canary": 0}});
    let (status, asked) = access.call(one, Method::POST, "/v1/hunts", Some(&asked))?;
    ensure!(status == 201, "{status}: {asked}");
    let path = format!("/v1/hunts/{}/coverage", asked["no"]);
    wait_for("all to answer", Duration::from_secs(300), || {
        std::thread::sleep(Duration::from_millis(200));
        let (_, coverage) = access.call(one, Method::GET, &path, None)?;
        Ok((coverage["rows"].as_u64() == Some(agents)).then_some(()))
    })
}
