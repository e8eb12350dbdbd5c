//! All tests. The query engine stays out of every build but its own and the binary's.

use crate::steps::{self, cargo, target_dir};
use crate::tools;

/// Runs the tests, or those whose name holds `filter`.
fn run_filtered(args: &[&str], filter: Option<&str>) -> anyhow::Result<()> {
    let mut command = cargo(args);
    command.args(filter);
    steps::run(&mut command)
}

/// Finds or installs what is needed, then runs everything.
pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    tools::postgres()?;
    tools::nats()?;
    tools::s3()?;
    tools::balancers()?;
    let engine_free = ["muster", "muster-query", "muster-system-tests"];
    let mut args = vec!["test", "--locked", "--workspace"];
    for package in engine_free {
        args.extend(["--exclude", package]);
    }
    run_filtered(&args, filter)?;
    run_filtered(&["test", "--locked", "-p", "muster", "--no-default-features"], filter)?;
    run_filtered(&["test", "--locked", "-p", "muster-query"], filter)?;

    // The whole system, through the doors users use: the binary itself.
    steps::run(&mut cargo(&["build", "--locked", "-p", "muster"]))?;
    let binary = target_dir().join("debug/muster");
    let mut system = cargo(&["test", "--locked", "-p", "muster-system-tests"]);
    steps::run(system.args(filter).env("MUSTER_BIN", binary))
}
