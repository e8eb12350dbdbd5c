//! All tests. The query engine stays out of every build but its own and the binary's.

use std::path::PathBuf;

use crate::steps::{self, cargo, root, target_dir};
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
    let (binary, other) = (target_dir().join("debug/muster"), other_build()?);
    let mut system = cargo(&["test", "--locked", "-p", "muster-system-tests"]);
    system.args(filter).env("MUSTER_BIN", binary).env("MUSTER_OTHER_BIN", other);
    steps::run(&mut system)
}

/// The binary once more, with another page, as somebody builds it who has a page of their own. A feature of
/// the last crate, so only that is compiled and linked, and both builds are kept.
fn other_build() -> anyhow::Result<PathBuf> {
    let (folder, page) = (target_dir().join("other-build"), target_dir().join("other-page"));
    std::fs::create_dir_all(&page)?;
    for entry in std::fs::read_dir(root().join("ui"))? {
        let entry = entry?;
        let mut bytes = std::fs::read(entry.path())?;
        if entry.file_name() == "app.js" {
            bytes.extend_from_slice(b"\n// of another build\n");
        }
        // Written only when it changes: a newer file is a new build.
        let copy = page.join(entry.file_name());
        if std::fs::read(&copy).ok().as_ref() != Some(&bytes) {
            std::fs::write(copy, bytes)?;
        }
    }
    let mut build = cargo(&["build", "--locked", "-p", "muster", "--features", "own-page"]);
    // Only the finished program has a place of its own.
    build.arg("--target-dir").arg(&folder).env("CARGO_BUILD_BUILD_DIR", target_dir());
    steps::run(build.env("MUSTER_PAGE_DIR", page))?;
    Ok(folder.join("debug/muster"))
}
