//! Tasks of the project: `cargo xtask test`, `ci`, `bench`, `dist`, `generate`.

mod bench;
mod dist;
mod generate;
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
    /// Build what is shipped into `target/dist`.
    Dist,
    /// Write the generated files again: configuration schema and sample, OpenAPI document.
    Generate,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Test { filter } => test::run(filter.as_deref()),
        Task::Ci => steps::ci(),
        Task::Bench { filter } => bench::run(filter.as_deref()),
        Task::Dist => dist::run(),
        Task::Generate => generate::run(),
    }
}
