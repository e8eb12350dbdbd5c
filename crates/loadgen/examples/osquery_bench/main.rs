//! osquery agents on a real server process.
//!
//! `idle`: polling agents with nothing to do, on a server pinned to one core, beside nginx that
//! answers the same bytes to the same load over the same TLS. The load comes from this process, pinned to another core. Two modes: `kept` holds connections and
//! asks each in its turn, so that every request meets a connection that went cold; `new` opens one
//! for every request, with a full handshake, as stock agents do. Rounds of the servers alternate, and
//! what is compared is the server's processor time for a request, which does not depend on whether
//! the load or the server is the slower of the two.
//!
//! The others use the simulator behind `muster loadgen osquery`, in processes of its own: `mix` is what
//! a fleet does on any day, `herd` what it does after an outage, `hunt` asks all of it at once, and
//! `memory` is what the server keeps of an agent without a connection.
//!
//! `MUSTER_BIN=target/release/muster cargo run --release -p muster-loadgen --example osquery_bench --
//! idle`, or `cargo xtask bench osquery-idle`. `--server stub` is the HTTP layer alone, without the
//! gateway behind it.

mod account;
#[path = "../agents_bench/api.rs"]
#[expect(dead_code, reason = "shared with agents_bench, which uses more of it")]
mod api;
mod fleet;
mod herd;
mod hosts;
mod hunt;
mod idle;
mod load;
#[path = "../agents_bench/measure.rs"]
#[expect(dead_code, reason = "shared with agents_bench, which uses more of it")]
mod measure;
mod memory;
mod mix;
mod operators;
mod place;
mod servers;
mod show;
mod stub;
mod sum;

use clap::Parser;

#[derive(Parser)]
enum Bench {
    /// Idle polls, beside nginx.
    Idle(idle::Options),
    /// What a fleet does on any day.
    Mix(mix::Options),
    /// Everybody comes back at once.
    Herd(herd::Options),
    /// A hunt over a polling fleet.
    Hunt(hunt::Options),
    /// Memory for each agent without a connection.
    Memory(memory::Options),
    /// Simulated hosts, as `muster loadgen osquery`; started by the others.
    #[command(hide = true)]
    Hosts(muster_loadgen::OsqueryOptions),
    /// The HTTP layer with an answer that is always the same; started by `idle`.
    #[command(hide = true)]
    Stub(stub::Options),
}

fn main() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installs a provider");
    match Bench::parse() {
        Bench::Idle(options) => idle::run(&options),
        Bench::Mix(options) => mix::run(&options),
        Bench::Herd(options) => herd::run(&options),
        Bench::Hunt(options) => hunt::run(&options),
        Bench::Memory(options) => memory::run(&options),
        Bench::Hosts(options) => muster_loadgen::osquery(options),
        Bench::Stub(options) => stub::run(&options),
    }
}
