//! What a fleet does on any day: polls, configurations, logs, details, at the intervals that are
//! published for other servers.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use crate::account::Account;
use crate::hosts::{Hosts, Kind};
use crate::measure;
use crate::operators::{Operators, Work};
use crate::place::{Cores, Place};
use crate::sum::Sum;

/// Sizes of the run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How hosts connect.
    #[arg(long, value_enum, default_value_t = Mode::Kept)]
    mode: Mode,
    /// Hosts of the first step [default: 100000 kept, 2000 new].
    #[arg(long)]
    hosts: Option<u32>,
    /// Hosts that each further step adds.
    #[arg(long, default_value_t = 2_000)]
    step: u32,
    /// Hosts of the last step [default: as the first kept, 30000 new].
    #[arg(long)]
    most: Option<u32>,
    /// Hosts of one simulator process [default: 25000 kept, 5000 new].
    #[arg(long)]
    per_process: Option<u32>,
    /// Connections that each process keeps.
    #[arg(long, default_value_t = 2_000)]
    connections: usize,
    /// Enrolments per second.
    #[arg(long, default_value_t = 500.0)]
    enrolments: f64,
    /// Seconds of quiet before a step is measured.
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The share of its cores, in percent, that the server may use.
    #[arg(long, default_value_t = 70.0)]
    cpu: f64,
    /// Seconds between two polls.
    #[arg(long, default_value_t = 10.0)]
    distributed_interval: f64,
    /// Seconds between two fetches of the configuration.
    #[arg(long, default_value_t = 60.0)]
    config_interval: f64,
    /// Seconds between two flushes.
    #[arg(long, default_value_t = 10.0)]
    log_interval: f64,
    /// Lines that a host makes for each flush.
    #[arg(long, default_value_t = 0.2)]
    lines: f64,
    /// Packages that a host lists when asked.
    #[arg(long, default_value_t = 1600)]
    packages: usize,
    #[command(flatten)]
    cores: Cores,
}

/// How hosts connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Over connections that stay, as behind a balancer that ends TLS.
    Kept,
    /// A connection for each request, as stock agents do; more and more hosts, until it is too much.
    New,
}

/// One step.
#[derive(Serialize)]
struct Step {
    hosts: u32,
    requests_per_second: f64,
    /// Of the server's cores.
    cpu_percent: f64,
    /// Of one core.
    load_percent: f64,
    /// Microseconds of the server for each request, everything that it does in the background included.
    cpu_micros: f64,
    resident_bytes: u64,
    failures: u64,
    gone: u64,
    enrol_seconds: f64,
    api: Work,
    is_good: bool,
    agents: Sum,
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let (first, most) = match options.mode {
        Mode::Kept => (options.hosts.unwrap_or(100_000), options.most),
        Mode::New => (options.hosts.unwrap_or(2_000), options.most.or(Some(30_000))),
    };
    let most = most.unwrap_or(first).max(first);
    let place = Place::up(&options.cores)?;
    let (mut hosts, load, mut steps) = (Hosts::default(), measure::load(), Vec::new());
    while hosts.len < most {
        let more = if hosts.len == 0 { first } else { options.step.clamp(1, most - hosts.len) };
        let step = step(options, &place, &mut hosts, more)?;
        eprintln!("{} hosts: {:.0} % CPU, {} errors", step.hosts, step.cpu_percent, step.failures);
        let is_good = step.is_good;
        steps.push(step);
        if !is_good {
            break;
        }
    }
    let last = hosts.stop(DRAIN)?;
    let account = Account::settle(&place.api, &last, DRAIN)?;
    show(options, load, &steps, &last, &account);
    Ok(())
}

/// After the end, for what is still buffered, and for what is not in SQL yet.
const DRAIN: Duration = Duration::from_secs(180);

/// Adds hosts and measures all there are.
fn step(options: &Options, place: &Place, hosts: &mut Hosts, more: u32) -> anyhow::Result<Step> {
    let start = f64::from(more) / options.enrolments;
    hosts.add(place, &kind(options), more, start)?;
    let took = hosts.enrolled(Duration::from_secs_f64(start * 5.0 + 120.0))?;
    std::thread::sleep(Duration::from_secs(options.settle));
    let (operators, before, cpu) =
        (Operators::start(&place.server)?, hosts.report()?, place.cpu()?);
    let began = std::time::Instant::now();
    std::thread::sleep(Duration::from_secs(options.seconds));
    let (agents, seconds) = (hosts.report()?.since(&before), began.elapsed().as_secs_f64());
    let cpu = place.cpu()? - cpu;
    let api = operators.finish()?;
    let cpu_percent = cpu / seconds / place.cores.of_server() * 100.0;
    let (failures, gone) = (agents.failures(), agents.gone());
    Ok(Step {
        hosts: hosts.len,
        requests_per_second: agents.requests() as f64 / seconds,
        cpu_percent,
        load_percent: agents.cpu / seconds * 100.0,
        cpu_micros: cpu * 1e6 / agents.requests().max(1) as f64,
        resident_bytes: measure::memory(place.pid()?)?.resident_bytes,
        failures,
        gone,
        enrol_seconds: took.as_secs_f64(),
        api,
        is_good: cpu_percent < options.cpu && failures == 0 && gone == 0,
        agents,
    })
}

fn kind(options: &Options) -> Kind {
    let (per_process, kept) = match options.mode {
        Mode::Kept => (options.per_process.unwrap_or(25_000), options.connections.max(1)),
        Mode::New => (options.per_process.unwrap_or(5_000), 0),
    };
    let kind = Kind { per_process, kept, args: Vec::new() };
    kind.with(&[
        ("--distributed-interval", options.distributed_interval.to_string()),
        ("--config-interval", options.config_interval.to_string()),
        ("--log-interval", options.log_interval.to_string()),
        ("--lines", options.lines.to_string()),
        ("--packages", options.packages.to_string()),
        ("--drain", DRAIN.as_secs().to_string()),
    ])
}

fn show(options: &Options, load: f64, steps: &[Step], last: &Sum, account: &Account) {
    println!("load average before: {load:.1}; {options:?}");
    println!(
        "\n| hosts ({}) | requests/s | server CPU % | µs/request | simulators' CPU % | resident MB | \
         poll p50/p99 ms | log p50/p99 ms | config p99 ms | API p99 ms | errors | lines gone |",
        match options.mode {
            Mode::Kept => "kept connections",
            Mode::New => "a connection for each request",
        }
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for step in steps {
        let ms = |route: &str| step.agents.ms(route);
        let (poll, log) = (ms("distributed/read"), ms("log"));
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1}/{:.1} | {:.1}/{:.1} | {:.1} | {:.1} \
             | {} | {} |",
            step.hosts,
            step.requests_per_second,
            step.cpu_percent,
            step.cpu_micros,
            step.load_percent,
            step.resident_bytes as f64 / 1e6,
            poll.p50,
            poll.p99,
            log.p50,
            log.p99,
            ms("config").p99,
            step.api.p99,
            step.failures,
            step.gone,
        );
    }
    let largest = steps.iter().filter(|step| step.is_good).map(|step| step.hosts).max();
    println!(
        "\nLargest count below {} % without an error or a lost line: {}. Of {} lines the server took, \
         SQL finds {}, {} of them twice; agents deleted {} unsent.",
        options.cpu,
        largest.unwrap_or_default(),
        account.taken,
        account.found,
        account.doubled,
        last.gone(),
    );
    if steps.iter().any(|step| step.load_percent > 90.0) {
        println!("The simulators had no processor time left in a step: it measures them.");
    }
    let run = json!({ "steps": steps, "largest": largest, "account": account,
        "gone": last.gone(), "still_buffered": last.buffered });
    println!("{run}");
}
