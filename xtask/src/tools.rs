//! Programs that tests and checks need: found, or installed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::steps::{cargo, run};

fn works(program: &str, arg: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(arg).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `cargo deny`.
pub fn cargo_deny() -> anyhow::Result<()> {
    if works("cargo-deny", "--version") {
        return Ok(());
    }
    run(&mut cargo(&["install", "cargo-deny", "--locked"]))
}

/// A PostgreSQL server (`initdb`, `postgres`), on the path or where Debian keeps it.
pub fn postgres() -> anyhow::Result<()> {
    let debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions.map(|version| version.path()).any(|dir| dir.join("bin/initdb").is_file())
    };
    if debian() || works("initdb", "--version") {
        return Ok(());
    }
    apt_install(&["postgresql"]).context(
        "the tests need a PostgreSQL server (initdb and postgres); install one by your system's means",
    )
}

/// Installs Debian packages; as root only, nothing is asked.
pub fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!("{} are missing and there is no apt-get to install them with", packages.join(", "));
    }
    run(Command::new("apt-get").args(["-q", "update"]))?;
    run(Command::new("apt-get")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
