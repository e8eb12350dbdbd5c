//! What a second and a third instance bring, and what the scaled planes cost.
//!
//! Every instance gets the same share of a core (a quota of the kernel's control groups), so that one
//! machine can stand for several, and the load and the stores have the rest. `checkins`: osquery agents
//! that poll over kept connections and have nothing to do. `rows`: osquery agents that post log lines
//! as fast as they are taken; what counts is rows in committed segments. `planes`: the same two on one
//! instance with everything embedded, and on PostgreSQL, NATS and S3, with the processor time of the
//! stores beside that of the server.
//!
//! Beside each rate stands the rate for each second of the servers' own processor time: it does not
//! depend on what else the machine did.
//!
//! `MUSTER_BIN=target/release/muster cargo run --release -p muster-loadgen --example scaling_bench`,
//! or `cargo xtask bench scaling`.

#[path = "../agents_bench/measure.rs"]
#[expect(dead_code, reason = "shared with agents_bench, which uses more of it")]
mod measure;

mod load;
mod place;
mod processes;
mod quota;
mod show;

use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use load::Kind;
use place::{Place, Planes};
use quota::Quota;
use show::Round;

#[derive(Parser, Clone, Debug)]
struct Options {
    /// What is measured; all without.
    what: Vec<What>,
    /// The most instances.
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// The share of a core, in percent, that each instance may use.
    #[arg(long, default_value_t = 20)]
    quota: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Agents of each instance, each with a connection.
    #[arg(long, default_value_t = 200)]
    agents: usize,
    /// Lines in each post.
    #[arg(long, default_value_t = 100)]
    lines: usize,
    /// Threads of the load.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Idle polls with one instance and more.
    Checkins,
    /// Rows with one instance and more.
    Rows,
    /// Embedded stores beside scaled ones.
    Planes,
}

fn main() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installs a provider");
    let options = Options::parse();
    let wanted = |what: What| options.what.is_empty() || options.what.contains(&what);
    println!("load average before: {:.1}; {options:?}", measure::load());
    let mut rounds = Vec::new();
    let kinds = [(What::Checkins, Kind::Poll), (What::Rows, Kind::Log)];
    for count in 1..=options.instances {
        let kinds: Vec<Kind> =
            kinds.iter().filter(|(what, _)| wanted(*what)).map(|(_, kind)| *kind).collect();
        if !kinds.is_empty() {
            rounds.extend(measured(&options, Planes::Scaled, count, &kinds)?);
        }
    }
    if wanted(What::Planes) {
        let kinds = [Kind::Poll, Kind::Log];
        rounds.extend(measured(&options, Planes::Embedded, 1, &kinds)?);
        if !wanted(What::Checkins) || !wanted(What::Rows) {
            rounds.extend(measured(&options, Planes::Scaled, 1, &kinds)?);
        }
    }
    show::rounds(&rounds);
    println!("{}", serde_json::json!(rounds));
    Ok(())
}

/// All rounds on one place.
fn measured(
    options: &Options,
    planes: Planes,
    count: usize,
    kinds: &[Kind],
) -> anyhow::Result<Vec<Round>> {
    eprintln!("{count} on {planes:?} (load {:.1})", measure::load());
    let place = Place::start(planes, count)?;
    let targets = place.enrol(options.agents)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads.max(1))
        .enable_all()
        .build()?;
    let mut quotas = Vec::new();
    for (index, pid) in place.servers()?.into_iter().enumerate() {
        quotas.push(Quota::new(index, options.quota)?.with(pid)?);
    }
    let mut rounds = Vec::new();
    for kind in kinds {
        for _ in 0..options.rounds {
            let warm = Duration::from_secs(2);
            runtime.block_on(load::run(&targets, *kind, options.lines, warm))?;
            let before = place.used()?;
            let time = Duration::from_secs(options.seconds);
            let outcome = runtime.block_on(load::run(&targets, *kind, options.lines, time))?;
            let used = place.used()?.since(&before);
            rounds.push(Round {
                planes,
                instances: count,
                kind: *kind,
                seconds: outcome.seconds,
                answered: outcome.answered,
                refused: outcome.refused,
                rows: used.rows,
                server_cpu: used.servers,
                store_cpu: used.stores,
                p99_ms: outcome.percentile(0.99).context("nothing was answered")?,
            });
            // What is not folded yet is no part of the next round.
            place.settle(Duration::from_secs(120))?;
        }
    }
    Ok(rounds)
}
