//! Tasks of the project: `cargo xtask test`, `ci`, `bench`, `bodies`, `long`, `dist`, `generate`.

mod bench;
mod bodies;
mod dist;
mod generate;
mod long;
mod statements;
mod steps;
mod test;
mod tools;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Tasks of the Muster project")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install or find what the tests need, and run all of them.
    Test {
        /// Only the tests whose name holds this.
        filter: Option<String>,
    },
    /// What a change must pass: format, lints, licences, generated files, tests.
    Ci,
    /// Run the benchmarks, each beside its ceiling.
    Bench {
        /// Only benchmarks whose name holds this.
        filter: Option<String>,
    },
    /// Memory under large bodies, at its full size and with a release build: many agents post 5 MiB each at
    /// once against a budget.
    Bodies {
        /// How many agents.
        #[arg(long, default_value_t = 1000)]
        clients: u32,
        /// What all bodies together may take, in MiB.
        #[arg(long, default_value_t = 256)]
        budget: u32,
    },
    /// The long form: server and agent killed again and again, and every fault of a cluster, in rounds, with
    /// separate roles, a NATS cluster and a PostgreSQL standby. Twenty minutes a round.
    Long {
        /// How many rounds of the cluster; none when 0.
        #[arg(long, default_value_t = 2)]
        rounds: u32,
        /// How many times a server, and an agent, is killed; not at all when 0.
        #[arg(long, default_value_t = 100)]
        kills: u32,
        /// What order and moments follow from; a new one each time, which is printed.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Build what is shipped into `target/dist`.
    Dist,
    /// Keep what this version asks the database, for the versions after it; before its tag.
    Statements,
    /// Write the generated files again: configuration schema and sample, OpenAPI document.
    Generate,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::Ci => steps::ci(),
        Task::Bench { filter } => bench::run(filter.as_deref()),
        Task::Bodies { clients, budget } => bodies::run(clients, budget),
        Task::Long { rounds, kills, seed } => long::run(rounds, kills, seed),
        Task::Dist => dist::run(),
        Task::Statements => statements::run(),
        Task::Generate => generate::run(),
    }
}
