//! The test of memory under large bodies at a size that takes a release build.

use crate::steps::{self, cargo, target_dir};

/// Builds, and runs it.
pub fn run(clients: u32, budget_mib: u32) -> anyhow::Result<()> {
    steps::run(&mut cargo(&["build", "--release", "--locked", "-p", "muster"]))?;
    let mut test = cargo(&["test", "--locked", "-p", "muster-system-tests", "--test", "it", "--"]);
    test.args(["--exact", "--nocapture"]);
    test.arg("load::five_megabytes_of_each_of_many_agents_stay_within_the_budget");
    test.env("MUSTER_BIN", target_dir().join("release/muster"));
    test.env("MUSTER_LOAD_CLIENTS", clients.to_string());
    test.env("MUSTER_LOAD_BUDGET", budget_mib.to_string());
    steps::run(&mut test)
}
