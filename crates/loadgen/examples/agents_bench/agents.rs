//! The run with many agents.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use muster_testkit::{Server, ServerOptions};
use serde::Serialize;
use serde_json::json;

use crate::api::Api;
use crate::fleet::{Fleet, Target};
use crate::measure::{self, Memory};
use crate::rounds::{self, Bare, Hunt, Single, ToAll};
use crate::show;

/// Sizes of the run.
#[derive(Args)]
pub struct Options {
    /// How many agents.
    #[arg(long, default_value_t = 2_000)]
    agents: u32,
    /// How many of them in one simulator process.
    #[arg(long, default_value_t = 10_000)]
    per_process: u32,
    /// Reconnect storms before memory counts.
    #[arg(long, default_value_t = 3)]
    storms: u32,
    /// Single tasks while all are idle.
    #[arg(long, default_value_t = 300)]
    singles: usize,
    /// Rounds of tasks to all.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Leave out the bare server: it needs as many connections again.
    #[arg(long)]
    no_bare: bool,
    /// End after memory was measured.
    #[arg(long)]
    only_memory: bool,
}

/// Rows of each answer.
const ROWS: u32 = 10;
/// Agents of their own process that single tasks go to, so that the time to read a task is not spent in
/// the queue of a simulator that reads 10,000 others.
const PROBES: u32 = 20;
const LONG: Duration = Duration::from_secs(600);

/// Everything that was measured.
#[derive(Default, Serialize)]
pub struct Run {
    /// Agents, probes not counted.
    pub agents: u64,
    /// Load average at each step.
    pub load: Vec<(&'static str, f64)>,
    /// Seconds to enrol all.
    pub enrol_seconds: f64,
    /// Seconds to connect all.
    pub connect_seconds: f64,
    /// Seconds of each storm.
    pub storm_seconds: Vec<f64>,
    /// Before any link, all enrolled; with all links; after the storms.
    pub memory: Vec<(&'static str, Memory)>,
    /// The bare server's, with as many links.
    pub bare_memory: Option<Memory>,
    /// One task while all are idle.
    pub idle: Single,
    /// One task while a task to all is being sent.
    pub busy: Single,
    /// Tasks to all.
    pub to_all: Vec<ToAll>,
    /// The same by the bare server.
    pub bare: Vec<ToAll>,
    /// A live query to all and a hunt at 20,000 a second.
    pub hunts: Vec<(&'static str, Hunt)>,
}

impl Run {
    fn note(&mut self, what: &'static str) {
        self.load.push((what, measure::load()));
        eprintln!("{what} (load {:.1})", measure::load());
    }
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let env = [("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "100000"), ("MUSTER_LOG__LEVEL", "error")];
    let server = Server::up(ServerOptions {
        env: env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        args: vec!["--no-agent".to_owned()],
    })?;
    let pid = server.pid().context("no server")?;
    let api = Api::new(&server)?;
    let secret = std::fs::read_to_string(server.data_dir().join("enrol-secret"))?;
    let (url, ca) = (server.agents_url(), server.data_dir().join("ca.pem"));
    let target = Target { url: &url, ca: &ca, secret: secret.trim() };

    let mut run = Run { agents: u64::from(options.agents), ..Run::default() };
    let mut probe = Fleet::start(&target, 0, PROBES, PROBES, ROWS)?;
    probe.wait("probes", LONG, |sum, len| sum.enrolled == len)?;
    probe.say("online")?;
    probe.wait("probes", LONG, |sum, len| sum.connected == len)?;
    run.note("enrolment");
    let mut fleet = Fleet::start(&target, PROBES, options.agents, options.per_process, ROWS)?;
    let took = fleet.wait("enrolment", LONG, |sum, len| sum.enrolled == len)?;
    run.enrol_seconds = took.as_secs_f64();

    links(options, pid, &mut fleet, &mut run)?;
    if !options.only_memory {
        tasks(options, &server, &api, &mut probe, &mut fleet, &mut run)?;
    }
    println!("{}", json!(run));
    show::agents(&run);
    Ok(())
}

/// Memory: before there is a link, with all of them, and after the storms.
fn links(options: &Options, pid: u32, fleet: &mut Fleet, run: &mut Run) -> anyhow::Result<()> {
    let settle = || measure::settle(pid, Duration::from_secs(40));
    std::thread::sleep(Duration::from_secs(12));
    settle()?;
    run.note("links");
    run.memory.push(("enrolled, no link", measure::memory(pid)?));
    fleet.say("online")?;
    run.connect_seconds = fleet.wait("links", LONG, |s, len| s.connected == len)?.as_secs_f64();
    // Longer than freed memory takes to go back to the kernel.
    std::thread::sleep(Duration::from_secs(12));
    settle()?;
    run.memory.push(("linked", measure::memory(pid)?));
    for _ in 0..options.storms {
        run.storm_seconds.push(fleet.storm()?.as_secs_f64());
        std::thread::sleep(Duration::from_secs(5));
    }
    std::thread::sleep(Duration::from_secs(12));
    settle()?;
    run.memory.push(("after storms", measure::memory(pid)?));
    run.note("links done");
    Ok(())
}

/// Tasks and hunts.
fn tasks(
    options: &Options,
    server: &Server,
    api: &Api,
    probe: &mut Fleet,
    fleet: &mut Fleet,
    run: &mut Run,
) -> anyhow::Result<()> {
    let pid = server.pid().context("no server")?;
    run.note("single tasks");
    let wanted = options.singles;
    let found = rounds::singles(api, probe, Duration::from_millis(10), |n| n >= wanted)?;
    run.idle = rounds::single(&found);

    run.note("tasks to all");
    fleet.say("mute")?;
    let mut bare = match options.no_bare {
        true => None,
        false => Some(Bare::start(server.scratch(), options.agents, options.per_process)?),
    };
    run.bare_memory = bare.as_ref().map(Bare::memory).transpose()?;
    // A first one that does not count: code and tables are read in.
    rounds::to_all(pid, api, fleet)?;
    for _ in 0..options.rounds {
        std::thread::sleep(rounds::ENDED);
        measure::settle(pid, Duration::from_secs(20))?;
        run.to_all.push(rounds::to_all(pid, api, fleet)?);
        if let Some(bare) = &mut bare {
            run.bare.push(bare.ask_all()?);
        }
    }
    drop(bare);

    run.note("single tasks during tasks to all");
    let mut busy = Vec::new();
    for _ in 0..3 * options.rounds {
        measure::settle(pid, Duration::from_secs(10))?;
        api.warm()?;
        let all = api.query(&json!({}), 8)?;
        let began = std::time::Instant::now();
        let found = rounds::singles(api, probe, Duration::ZERO, |_| {
            began.elapsed() > Duration::from_secs(1)
        })?;
        let last = rounds::received(fleet, all.no)?.into_iter().max().unwrap_or_default();
        busy.extend(found.into_iter().filter(|(_, accepted, _)| *accepted < last));
    }
    run.busy = rounds::single(&busy);

    run.note("hunts");
    fleet.say("unmute")?;
    let all = fleet.len + probe.len;
    for (name, paced) in [("live query", false), ("hunt", true), ("live query", false)] {
        measure::settle(pid, Duration::from_secs(15))?;
        run.hunts.push((name, rounds::hunt(pid, api, all, u64::from(ROWS), paced)?));
    }
    run.note("done");
    Ok(())
}
