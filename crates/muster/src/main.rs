//! Muster: one binary for the server, the agent and the command line.

mod cli;
mod client;
mod config;
mod install;
mod osquery_flags;
mod server;
#[cfg(test)]
mod statements;

/// Steady memory under many small allocations, and heap profiles in production.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installs a provider");
    cli::main()
}
