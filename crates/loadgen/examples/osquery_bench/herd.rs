//! The thundering herd: everybody comes back at once, with what gathered meanwhile.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::account::Account;
use crate::hosts::{Hosts, Kind};
use crate::measure;
use crate::operators::Operators;
use crate::place::{Cores, Place};

/// Sizes of the run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Hosts.
    #[arg(long, default_value_t = 5_000)]
    hosts: u32,
    /// Hosts of one simulator process.
    #[arg(long, default_value_t = 5_000)]
    per_process: u32,
    /// Connections that each process keeps, as behind a balancer; none: one for each request.
    #[arg(long, default_value_t = 0)]
    kept: usize,
    /// What went away.
    #[arg(long, value_enum, default_value_t = Away::Network)]
    away: Away,
    /// Seconds without it.
    #[arg(long, default_value_t = 120)]
    outage: u64,
    /// Hosts come back as their own timers have it, not all in one moment.
    #[arg(long)]
    timers: bool,
    /// Lines that a host makes for each flush.
    #[arg(long, default_value_t = 10.0)]
    lines: f64,
    /// Seconds between two flushes.
    #[arg(long, default_value_t = 10.0)]
    log_interval: f64,
    /// Seconds between two polls.
    #[arg(long, default_value_t = 10.0)]
    distributed_interval: f64,
    /// Seconds between two fetches of the configuration.
    #[arg(long, default_value_t = 60.0)]
    config_interval: f64,
    /// Enrolments per second.
    #[arg(long, default_value_t = 500.0)]
    enrolments: f64,
    /// Seconds of quiet before the outage.
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Seconds that recovery may take.
    #[arg(long, default_value_t = 600)]
    most: u64,
    /// Packages that a host lists when asked.
    #[arg(long, default_value_t = 1600)]
    packages: usize,
    #[command(flatten)]
    cores: Cores,
}

/// What went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Away {
    /// All hosts are without network.
    Network,
    /// The server is stopped and started.
    Server,
}

/// When how much of what gathered had been taken, in seconds.
#[derive(Debug, Default, serde::Serialize)]
struct Recovery {
    half: Option<f64>,
    nine_tenths: Option<f64>,
    all: Option<f64>,
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut place = Place::up(&options.cores)?;
    let (mut hosts, load) = (Hosts::default(), measure::load());
    let start = f64::from(options.hosts) / options.enrolments;
    hosts.add(&place, &kind(options), options.hosts, start)?;
    hosts.enrolled(Duration::from_secs_f64(start * 5.0 + 120.0))?;
    std::thread::sleep(Duration::from_secs(options.settle));
    let mut steady = 0;
    for _ in 0..10 {
        steady = steady.max(hosts.report()?.buffered);
        std::thread::sleep(Duration::from_secs_f64(options.log_interval / 10.0));
    }

    // People work through all of it when the server is there.
    let people = Operators::start(&place.server)?;
    match options.away {
        Away::Network => hosts.say("offline")?,
        Away::Server => place.stop()?,
    }
    let during = match options.away {
        Away::Network => Some(people),
        Away::Server => {
            people.finish()?;
            None
        }
    };
    std::thread::sleep(Duration::from_secs(options.outage));
    let gathered = hosts.report()?;
    let people = match (options.away, during) {
        (Away::Server, _) | (_, None) => {
            place.start()?;
            Operators::start(&place.server)?
        }
        (Away::Network, Some(people)) => {
            hosts.say("online")?;
            people
        }
    };
    let (began, cpu) = (Instant::now(), place.cpu()?);
    if !options.timers {
        hosts.say("storm")?;
    }
    let recovery = recover(options, &mut hosts, began, gathered.buffered, steady)?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), place.cpu()? - cpu);
    let work = people.finish()?;
    let storm = hosts.report()?.since(&gathered);
    let last = hosts.stop(DRAIN)?;
    let account = Account::settle(&place.api, &last, Duration::from_secs(options.most))?;

    println!("load average before: {load:.1}; {options:?}");
    println!(
        "\n| hosts | lines waiting | half taken after s | 90 % | all | server CPU % | lines gone | \
         missing | doubled | answers late or refused | API p50 ms | API p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let after = |at: Option<f64>| at.map_or_else(|| "never".to_owned(), |at| format!("{at:.1}"));
    println!(
        "| {} | {} | {} | {} | {} | {:.0} | {} | {} | {} | {} | {:.1} | {:.1} |",
        options.hosts,
        gathered.buffered,
        after(recovery.half),
        after(recovery.nine_tenths),
        after(recovery.all),
        cpu / seconds / place.cores.of_server() * 100.0,
        last.gone(),
        account.missing(),
        account.doubled,
        storm.failures(),
        work.p50,
        work.p99,
    );
    let run = json!({ "gathered": gathered.buffered, "steady": steady, "recovery": recovery,
        "server_cpu": cpu, "seconds": seconds, "api": work, "storm": storm, "account": account,
        "gone": last.gone(), "still_buffered": last.buffered });
    println!("{run}");
    Ok(())
}

/// After the end, for what is still buffered: agents may wait through four failures.
const DRAIN: Duration = Duration::from_secs(300);

fn kind(options: &Options) -> Kind {
    let kind = Kind { per_process: options.per_process, kept: options.kept, args: Vec::new() };
    kind.with(&[
        ("--lines", options.lines.to_string()),
        ("--log-interval", options.log_interval.to_string()),
        ("--distributed-interval", options.distributed_interval.to_string()),
        ("--config-interval", options.config_interval.to_string()),
        ("--packages", options.packages.to_string()),
        ("--drain", DRAIN.as_secs().to_string()),
    ])
}

/// Waits until no more is buffered than on any day.
fn recover(
    options: &Options,
    hosts: &mut Hosts,
    began: Instant,
    gathered: u64,
    steady: u64,
) -> anyhow::Result<Recovery> {
    ensure!(gathered > steady, "nothing gathered: {gathered} lines, {steady} on any day");
    let mut recovery = Recovery::default();
    while began.elapsed() < Duration::from_secs(options.most) {
        let sum = hosts.report()?;
        let (left, now) = (sum.buffered, began.elapsed().as_secs_f64());
        let over = left.saturating_sub(steady) as f64 / (gathered - steady) as f64;
        for (at, share) in [(&mut recovery.half, 0.5), (&mut recovery.nine_tenths, 0.1)] {
            if over <= share {
                at.get_or_insert(now);
            }
        }
        if left <= steady {
            recovery.all = Some(now);
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(recovery)
}
