//! A cluster of real server processes on PostgreSQL and NATS.
//!
//! `delivery`: an operator asks one instance about agents that are connected to another; what is
//! measured is the time from the request to the task at the agent, by one clock. The agents are
//! processes of the simulator behind `muster loadgen native`. After a pause between questions the cluster is idle.
//!
//! `catalog`: what PostgreSQL spends on instances, enrolments, linked agents and hunts.
//!
//! `fleet`: more agents than one process may have files open, linked to several instances, and hunts over all.
//!
//! `MUSTER_BIN=target/release/muster cargo run --release -p muster-loadgen --example cluster_bench --
//! delivery`

mod agents;
mod asker;
mod catalog;
mod delivery;
mod fleet;
#[path = "../scaling_bench/processes.rs"]
mod processes;

use clap::Parser;

#[derive(Parser)]
enum Bench {
    /// From an operator on one instance to agents on another.
    Delivery(delivery::Options),
    /// What PostgreSQL spends on what.
    Catalog(catalog::Options),
    /// A fleet larger than one process may hold.
    Fleet(fleet::Options),
}

fn main() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installs a provider");
    match Bench::parse() {
        Bench::Delivery(options) => delivery::run(&options),
        Bench::Catalog(options) => catalog::run(&options),
        Bench::Fleet(options) => fleet::run(&options),
    }
}
