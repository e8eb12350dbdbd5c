//! Muster: the binary.
mod cli;
mod client;
mod config;
mod server;

fn main() {
    println!("{}", config::sample());
}
