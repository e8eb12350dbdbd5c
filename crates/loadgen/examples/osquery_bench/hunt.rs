//! A hunt over a polling fleet: every answer accounted for, and how long that takes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::hosts::{Hosts, Kind};
use crate::measure;
use crate::operators::Operators;
use crate::place::{Cores, Place};

/// Sizes of the run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Hosts.
    #[arg(long, default_value_t = 20_000)]
    hosts: u32,
    /// Hosts of one simulator process.
    #[arg(long, default_value_t = 10_000)]
    per_process: u32,
    /// Connections that each process keeps.
    #[arg(long, default_value_t = 2_000)]
    kept: usize,
    /// Seconds between two polls of a host.
    #[arg(long, default_value_t = 10.0)]
    distributed_interval: f64,
    /// Endpoints a second that the hunt goes to.
    #[arg(long, default_value_t = 20_000)]
    rate: u32,
    /// Longest time the query takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    query_ms: u64,
    /// Hunts, one after another.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Enrolments per second.
    #[arg(long, default_value_t = 1_000.0)]
    enrolments: f64,
    /// Seconds of polling before the first hunt.
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// Packages that a host lists when asked.
    #[arg(long, default_value_t = 1600)]
    packages: usize,
    #[command(flatten)]
    cores: Cores,
}

/// Agents answer this with one row of their own; each fifth finds nothing.
const QUERY: &str = "SELECT version, uuid, instance_id FROM osquery_info";
const LONG: Duration = Duration::from_secs(300);

/// One hunt.
struct Round {
    coverage: Value,
    /// Until the last answer was durable, folded and counted.
    seconds: f64,
    rows: u64,
    cpu: f64,
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let place = Place::up(&options.cores)?;
    let kind = Kind { per_process: options.per_process, kept: options.kept, args: Vec::new() };
    let kind = kind.with(&[
        ("--distributed-interval", options.distributed_interval.to_string()),
        ("--query-ms", options.query_ms.to_string()),
        ("--packages", options.packages.to_string()),
    ]);
    let (mut hosts, load) = (Hosts::default(), measure::load());
    let start = f64::from(options.hosts) / options.enrolments;
    hosts.add(&place, &kind, options.hosts, start)?;
    hosts.enrolled(Duration::from_secs_f64(start * 5.0 + 120.0))?;
    std::thread::sleep(Duration::from_secs(options.settle));
    let (before, operators) = (hosts.report()?, Operators::start(&place.server)?);
    let mut rounds = Vec::new();
    for no in 0..options.rounds {
        rounds.push(hunt(&place, options).with_context(|| format!("hunt {no}"))?);
        std::thread::sleep(Duration::from_secs(2));
    }
    let work = operators.finish()?;
    let sum = hosts.report()?.since(&before);
    println!("load average before: {load:.1}; {options:?}");
    println!(
        "\n| hosts | all answered within s | goal s | rows | empty | failed | SQL rows | \
         server CPU µs/host |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let goal = options.distributed_interval + 2.0;
    for round in &rounds {
        let count = |name: &str| round.coverage[name].as_u64().unwrap_or_default();
        println!(
            "| {} | {:.1} | {goal:.0} | {} | {} | {} | {} | {:.0} |",
            count("total"),
            round.seconds,
            count("rows"),
            count("empty"),
            count("failed"),
            round.rows,
            round.cpu * 1e6 / f64::from(options.hosts),
        );
    }
    println!("\nOperators' API meanwhile: {work:?}; agents saw {} errors", sum.failures());
    let rounds = rounds.iter().map(|round| {
        let Round { coverage, seconds, rows, cpu } = round;
        json!({ "coverage": coverage, "seconds": seconds, "sql_rows": rows, "server_cpu": cpu })
    });
    let rounds: Vec<_> = rounds.collect();
    println!("{}", json!({ "hunts": rounds, "goal": goal, "api": work, "agents": sum }));
    Ok(())
}

fn hunt(place: &Place, options: &Options) -> anyhow::Result<Round> {
    let limits = json!({ "rate_per_second": options.rate, "canary": 0 });
    place.api.warm()?;
    let (began, cpu) = (Instant::now(), place.cpu()?);
    let asked = place.api.ask("/v1/hunts", &json!({ "query": QUERY, "limits": limits }))?;
    let count = |coverage: &Value, name: &str| coverage[name].as_u64().unwrap_or_default();
    let (coverage, seconds) = loop {
        let coverage = place.api.get(&format!("/v1/hunts/{}/coverage", asked.no))?;
        let total = count(&coverage, "total");
        if total == u64::from(options.hosts) && count(&coverage, "ended") == total {
            break (coverage, began.elapsed().as_secs_f64());
        }
        ensure!(began.elapsed() < LONG, "not complete within {LONG:?}: {coverage}");
        // Not often: each look goes over the whole fleet.
        std::thread::sleep(Duration::from_millis(100));
    };
    let cpu = place.cpu()? - cpu;
    // Hosts are numbered from 0, and each fifth finds nothing.
    let empty = u64::from(options.hosts.div_ceil(5));
    let rows = u64::from(options.hosts) - empty;
    let got = [count(&coverage, "rows"), count(&coverage, "empty"), count(&coverage, "row_count")];
    ensure!(got == [rows, empty, rows], "not every answer is accounted for: {coverage}");
    let table = asked.no;
    let found = place.api.sql(&format!("SELECT COUNT(DISTINCT agent) AS n FROM hunt_{table}"))?;
    ensure!(found == rows, "SQL finds rows of {found} agents instead of {rows}");
    Ok(Round { coverage, seconds, rows: found, cpu })
}
