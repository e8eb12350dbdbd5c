//! The long form of the cluster's tests, as one command.

use crate::steps::{self, cargo, target_dir};
use crate::tools;

/// Installs what is missing, builds, and runs it. The seed is printed, and repeats the run's faults.
pub fn run(rounds: u32, seed: Option<u64>) -> anyhow::Result<()> {
    tools::postgres()?;
    tools::s3()?;
    steps::run(&mut cargo(&["build", "--locked", "-p", "muster"]))?;
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
