//! Many agents on one real server process: memory per link, latency and cost of tasks, hunts, and
//! starting with a large directory.
//!
//! The server is the release binary with a temporary folder and ports of its own; fleets are
//! processes of the simulator behind `muster loadgen native`; the ceiling of a task to all is a bare TLS server (in a process
//! of its own too) that holds as many links of the same simulator and writes the same frame to each,
//! in rounds that alternate with Muster's.
//!
//! `MUSTER_BIN=target/release/muster cargo run --release -p muster-loadgen --example agents_bench --
//! agents --agents 10000`, or `cargo xtask bench agents`.

mod agents;
mod api;
mod bare;
mod fleet;
mod measure;
mod rounds;
mod show;
mod startup;

use clap::Parser;

#[derive(Parser)]
enum Bench {
    /// Memory per link, latency and cost of tasks, and hunts.
    Agents(agents::Options),
    /// Start to serving, and memory of an idle server.
    Startup(startup::Options),
    /// A fleet, as `muster loadgen native`; started by `agents`.
    #[command(hide = true)]
    Native(muster_loadgen::NativeOptions),
    /// The bare server; started by `agents`.
    #[command(hide = true)]
    Bare(bare::Options),
}

fn main() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installs a provider");
    match Bench::parse() {
        Bench::Agents(options) => agents::run(&options),
        Bench::Startup(options) => startup::run(&options),
        Bench::Native(options) => muster_loadgen::native(options),
        Bench::Bare(options) => bare::run(options),
    }
}
