//! Running cargo, and what CI runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the root").to_owned()
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Cargo with these arguments, in the root.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end and says how long it took.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    println!("==> {shown}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("start {shown}"))?;
    println!("    {:.1} s", started.elapsed().as_secs_f64());
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// Format, lints, licences, generated files, tests: everything a change must pass.
pub fn ci() -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    crate::tools::cargo_deny()?;
    // The build fetches what this platform needs; the check looks at what any of them would.
    run(&mut cargo(&["fetch", "--locked"]))?;
    // The advisory database is not fetched here: a check that depends on the day is no check of the change.
    run(&mut cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    crate::test::run(None)
}
