//! The run.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::fleet::{self, Fleet};
use crate::load::{self, Kept, Load, Outcome, Target};
use crate::servers::{self, Certificate, Pinned};
use crate::{measure, show};

/// Sizes of the run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What stands beside nginx.
    #[arg(long, value_enum, default_value_t = Which::Muster)]
    server: Which,
    /// Connections that are kept.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Requests under way at a time over kept connections.
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Requests under way at a time with a connection for each.
    #[arg(long, default_value_t = 32)]
    in_flight_new: usize,
    /// Requests per second over kept connections; as many as go without.
    #[arg(long)]
    rate: Option<u32>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Enrolled agents.
    #[arg(long, default_value_t = 100_000)]
    agents: u32,
    /// Active hunts, none of them for these agents.
    #[arg(long, default_value_t = 50)]
    hunts: u32,
    /// The servers' core.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The load's core.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// What stands beside nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The whole server.
    Muster,
    /// The HTTP layer alone.
    Stub,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Round {
    /// Whose.
    pub server: &'static str,
    /// `kept` or `new`.
    pub mode: &'static str,
    /// What the load saw.
    pub outcome: Outcome,
    /// The server's processor time, in seconds.
    pub cpu: f64,
    /// This process's.
    pub load_cpu: f64,
    /// Resident bytes of the server for each kept connection.
    pub bytes: Option<f64>,
}

struct Server {
    name: &'static str,
    pid: u32,
    target: Target,
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
    let certificate = Certificate::make(folder.path())?;
    let nginx = servers::nginx(folder.path(), &certificate, options.server_core)?;
    let (fleet, stub) = match options.server {
        Which::Muster => (Some(fleet::start(options.agents, options.hunts)?), None),
        Which::Stub => (None, Some(servers::stub(&certificate, options.server_core)?)),
    };
    let mut all = vec![beside(&nginx, "nginx", &certificate)?];
    if let Some(stub) = &stub {
        all.push(beside(stub, "stub", &certificate)?);
    }
    if let Some(Fleet { server, requests, tls }) = &fleet {
        let pid = server.pid().context("no server")?;
        servers::pin(pid, options.server_core)?;
        let address = ([127, 0, 0, 1], server.ports()[1]).into();
        let target = Target { address, tls: tls.clone(), requests: requests.clone() };
        measure::settle(pid, Duration::from_secs(60))?;
        all.push(Server { name: "Muster", pid, target });
    }
    servers::pin(std::process::id(), options.load_core)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rounds = Vec::new();
    let load = measure::load();
    for _ in 0..options.rounds {
        for server in &all {
            rounds.push(runtime.block_on(kept(server, options))?);
            rounds.push(runtime.block_on(anew(server, options))?);
        }
    }
    println!("load average before: {load:.1}; {options:?}");
    show::rounds(&rounds);
    if let (Some(fleet), Some(server)) = (&fleet, all.last()) {
        count(&runtime, fleet, server, options)?;
    }
    Ok(())
}

fn beside(
    pinned: &Pinned,
    name: &'static str,
    certificate: &Certificate,
) -> anyhow::Result<Server> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der.clone())?;
    // As long as a real key.
    let requests = [load::request(&"k".repeat(44))].into();
    let address = ([127, 0, 0, 1], pinned.port).into();
    let target = Target { address, tls: load::connector(roots)?, requests };
    Ok(Server { name, pid: pinned.pid(), target })
}

async fn kept(server: &Server, options: &Options) -> anyhow::Result<Round> {
    let before = measure::memory(server.pid)?.anonymous_bytes;
    let mut kept = Kept::open(&server.target, options.connections).await?;
    let after = measure::memory(server.pid)?.anonymous_bytes;
    let bytes = (after as f64 - before as f64) / options.connections as f64;
    let load = Load {
        in_flight: options.in_flight.min(options.connections),
        rate: options.rate,
        time: Duration::from_secs(1),
    };
    kept.ask(&server.target, load).await?;
    let load = Load { time: Duration::from_secs(options.seconds), ..load };
    let cpu = Cpu::now(server)?;
    let outcome = kept.ask(&server.target, load).await?;
    cpu.round(server, "kept", outcome, Some(bytes))
}

async fn anew(server: &Server, options: &Options) -> anyhow::Result<Round> {
    let load = Load { in_flight: options.in_flight_new, rate: None, time: Duration::from_secs(1) };
    load::ask_anew(&server.target, load).await?;
    let load = Load { time: Duration::from_secs(options.seconds), ..load };
    let cpu = Cpu::now(server)?;
    let outcome = load::ask_anew(&server.target, load).await?;
    cpu.round(server, "new", outcome, None)
}

/// Processor times at the begin of a measurement.
struct Cpu {
    server: f64,
    load: f64,
}

impl Cpu {
    fn now(server: &Server) -> anyhow::Result<Self> {
        let load = measure::cpu(std::process::id())?.total;
        Ok(Self { server: measure::cpu(server.pid)?.total, load })
    }

    fn round(
        self,
        server: &Server,
        mode: &'static str,
        outcome: Outcome,
        bytes: Option<f64>,
    ) -> anyhow::Result<Round> {
        ensure!(outcome.answered > 0, "{}: nothing was answered", server.name);
        let Self { server: cpu, load } = Self::now(server)?;
        let (cpu, load_cpu) = (cpu - self.server, load - self.load);
        Ok(Round { server: server.name, mode, outcome, cpu, load_cpu, bytes })
    }
}

/// What the polls of some seconds ask of the catalog and the bus, beside what the server does without.
fn count(
    runtime: &tokio::runtime::Runtime,
    fleet: &Fleet,
    server: &Server,
    options: &Options,
) -> anyhow::Result<()> {
    let time = Duration::from_secs(options.seconds);
    let read = || -> anyhow::Result<[f64; 2]> {
        let calls = fleet.server.metric("muster_catalog_calls_total")?;
        Ok([calls, fleet.server.metric("muster_bus_published_total")?])
    };
    let since = |before: [f64; 2]| -> anyhow::Result<[f64; 2]> {
        let now = read()?;
        Ok([now[0] - before[0], now[1] - before[1]])
    };
    let mut kept = runtime.block_on(Kept::open(&server.target, options.connections))?;
    let before = read()?;
    std::thread::sleep(time);
    let idle = since(before)?;
    let load = Load { in_flight: options.in_flight.min(options.connections), rate: None, time };
    let before = read()?;
    let outcome = runtime.block_on(kept.ask(&server.target, load))?;
    let busy = since(before)?;
    println!("\n| in {} s | polls | with work | catalog calls | bus messages |", options.seconds);
    println!("| --- | --- | --- | --- | --- |");
    println!("| without polls | 0 | 0 | {} | {} |", idle[0], idle[1]);
    let Outcome { answered, work, .. } = outcome;
    println!("| with polls | {answered} | {work} | {} | {} |", busy[0], busy[1]);
    println!("{}", json!({ "polls": answered, "work": work, "idle": idle, "busy": busy }));
    Ok(())
}
