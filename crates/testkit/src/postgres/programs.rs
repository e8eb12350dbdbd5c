//! Where PostgreSQL's programs are, and who runs them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Where the programs are: Debian's folder, else the folder of `postgres` in PATH.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    let debian = Path::new("/usr/lib/postgresql");
    let mut found: Vec<_> = std::fs::read_dir(debian)
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.reverse();
    found.extend(std::env::split_paths(&path));
    found
        .into_iter()
        .find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
        .context("PostgreSQL is not installed (Debian: apt-get install postgresql)")
}

/// PostgreSQL refuses to run as root: then its own user runs it.
pub(super) fn owner() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.context("there is no user postgres")?.split(':').skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok()).context("/etc/passwd");
    Ok(Some((number()?, number()?)))
}

pub(super) fn run_as<'a>(
    command: &'a mut Command,
    owner: Option<(u32, u32)>,
    dir: &Path,
) -> &'a mut Command {
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    // Out of the way of a Ctrl-C at the test run, which then ends the server through the guard.
    command.current_dir(dir).process_group(0)
}
