//! The long form of the tests of crashes and of the cluster's tests, as one command.

use crate::steps::{self, cargo, target_dir};
use crate::tools;

/// Installs what is missing, builds, and runs it. The seed is printed, and repeats the run's faults.
pub fn run(rounds: u32, kills: u32, seed: Option<u64>) -> anyhow::Result<()> {
    tools::postgres()?;
    tools::s3()?;
    steps::run(&mut cargo(&["build", "--locked", "-p", "muster"]))?;
    if kills > 0 {
        killed("muster-system-tests", "it", "a_server_killed_at_any_moment_of_a_hunt", kills)?;
        killed("muster-agent", "kill", "rows_are_exact_whenever_the_agent_dies", kills)?;
    }
    if rounds == 0 {
        return Ok(());
    }
    let mut test =
        cargo(&["test", "--locked", "-p", "muster-system-tests", "--test", "scale", "--"]);
    test.args(["--ignored", "--exact", "--nocapture"]);
    test.arg("separate_roles_a_nats_cluster_and_a_standby");
    test.env("MUSTER_BIN", target_dir().join("debug/muster"));
    test.env("MUSTER_LONG_ROUNDS", rounds.to_string());
    if let Some(seed) = seed {
        test.env("MUSTER_SEED", seed.to_string());
    }
    steps::run(&mut test)
}

/// One process that is killed in the middle of its work, so many times.
fn killed(package: &str, target: &str, name: &str, kills: u32) -> anyhow::Result<()> {
    let mut test = cargo(&["test", "--locked", "-p", package, "--test", target, "--"]);
    test.args([name, "--nocapture"]);
    test.env("MUSTER_BIN", target_dir().join("debug/muster"));
    test.env("MUSTER_CRASH_ROUNDS", kills.to_string()).env("MUSTER_KILLS", kills.to_string());
    steps::run(&mut test)
}
