//! What a release asks the database, kept so that no later migration breaks it.

use std::process::{Command, Stdio};

use anyhow::ensure;

use crate::steps::{self, cargo, root};

/// Writes `crates/catalog/compat/VERSION.json`. For a release, before its tag; afterwards it stays.
pub fn run() -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let tag = format!("refs/tags/v{version}");
    let mut known = Command::new("git");
    known
        .args(["rev-parse", "--verify", "--quiet", &tag])
        .current_dir(root())
        .stdout(Stdio::null());
    ensure!(
        !known.status()?.success(),
        "{version} is released, and programs of it may run: raise the version first"
    );
    let mut command = cargo(&["test", "--quiet", "-p", "muster", "statements_of_this_version"]);
    steps::run(command.env("MUSTER_KEEP_STATEMENTS", "1"))
}
