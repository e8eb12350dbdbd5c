//! Memory of the server for each enrolled agent that polls and has no connection open.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::hosts::{Hosts, Kind};
use crate::measure;
use crate::place::{Cores, Place};

/// Sizes of the run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Agents at the first measurement: what any server needs is paid for by then.
    #[arg(long, default_value_t = 5_000)]
    base: u32,
    /// Agents at the last; one measurement lies half way.
    #[arg(long, default_value_t = 100_000)]
    agents: u32,
    /// Seconds for which they poll before each measurement.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Seconds between two polls of an agent.
    #[arg(long, default_value_t = 30.0)]
    distributed_interval: f64,
    /// Enrolments per second.
    #[arg(long, default_value_t = 1_000.0)]
    enrolments: f64,
    /// Seconds of rest before memory is read, longer than freed memory takes to go back to the kernel.
    #[arg(long, default_value_t = 20)]
    rest: u64,
    /// Packages that a host lists when asked.
    #[arg(long, default_value_t = 200)]
    packages: usize,
    #[command(flatten)]
    cores: Cores,
}

/// Runs it and prints what was measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let place = Place::up(&options.cores)?;
    let kind = Kind { per_process: 50_000, kept: 64, args: Vec::new() }.with(&[
        ("--distributed-interval", options.distributed_interval.to_string()),
        ("--packages", options.packages.to_string()),
        ("--query-ms", "0".to_owned()),
    ]);
    let middle = options.base + options.agents.saturating_sub(options.base) / 2;
    let load = measure::load();
    let mut points = Vec::new();
    for agents in [options.base, middle, options.agents] {
        // All of them: those that were there before poll again, with the keys of a new start.
        let mut hosts = Hosts::default();
        let start = f64::from(agents) / options.enrolments;
        hosts.add(&place, &kind, agents, start)?;
        hosts.enrolled(Duration::from_secs_f64(start * 5.0 + 120.0))?;
        std::thread::sleep(Duration::from_secs(options.seconds));
        let polls = hosts.stop(Duration::ZERO)?.ms("distributed/read").count;
        std::thread::sleep(Duration::from_secs(options.rest));
        measure::settle(place.pid()?, Duration::from_secs(120))?;
        let memory = measure::memory(place.pid()?)?;
        eprintln!("{agents} agents, {polls} polls: {memory:?}");
        points.push((agents, polls, memory));
    }
    println!("load average before: {load:.1}; {options:?}");
    println!(
        "\n| agents without a connection | polls | resident MB | of that anonymous MB | B/agent |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut before = None;
    for (agents, polls, memory) in &points {
        let each = before.map_or_else(
            || "–".to_owned(),
            |(fewer, bytes): (u32, u64)| {
                let more = memory.anonymous_bytes as f64 - bytes as f64;
                format!("{:.0}", more / f64::from(agents.saturating_sub(fewer).max(1)))
            },
        );
        before = Some((*agents, memory.anonymous_bytes));
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let (all, own) = (mb(memory.resident_bytes), mb(memory.anonymous_bytes));
        println!("| {agents} | {polls} | {all:.1} | {own:.1} | {each} |");
    }
    let points = points.iter().map(
        |(agents, polls, memory)| json!({ "agents": agents, "polls": polls, "memory": memory }),
    );
    println!("{}", json!({ "memory": points.collect::<Vec<_>>() }));
    Ok(())
}
