//! Polling osquery agents with nothing to do, on a server pinned to one core, beside nginx that
//! answers the same bytes to the same load over the same TLS.
//!
//! The load comes from this process, pinned to another core. Two modes: `kept` holds connections and
//! asks each in its turn, so that every request meets a connection that went cold; `new` opens one
//! for every request, with a full handshake, as stock agents do. Rounds of the servers alternate, and
//! what is compared is the server's processor time for a request, which does not depend on whether
//! the load or the server is the slower of the two.
//!
//! `MUSTER_BIN=target/release/muster cargo run --release -p muster-loadgen --example osquery_bench --
//! idle`, or `cargo xtask bench osquery-idle`. `--server stub` is the HTTP layer alone, without the
//! gateway behind it.

#[path = "../agents_bench/api.rs"]
#[expect(dead_code, reason = "shared with agents_bench, which uses more of it")]
mod api;
mod fleet;
mod idle;
mod load;
#[path = "../agents_bench/measure.rs"]
#[expect(dead_code, reason = "shared with agents_bench, which uses more of it")]
mod measure;
mod servers;
mod show;
mod stub;

use clap::Parser;

#[derive(Parser)]
enum Bench {
    /// Idle polls, beside nginx.
    Idle(idle::Options),
    /// The HTTP layer with an answer that is always the same; started by `idle`.
    #[command(hide = true)]
    Stub(stub::Options),
}

fn main() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installs a provider");
    match Bench::parse() {
        Bench::Idle(options) => idle::run(&options),
        Bench::Stub(options) => stub::run(&options),
    }
}
