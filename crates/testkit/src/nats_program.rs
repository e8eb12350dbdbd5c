//! Where the NATS server program is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The oldest version that does what is needed.
const VERSION_MIN: (u32, u32) = (2, 10);

/// The NATS server: `MUSTER_NATS_SERVER`, or one on the path that is new enough, or the one that
/// `cargo xtask test` installs.
///
/// # Errors
/// When there is none, with what to do.
pub fn nats_program() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("MUSTER_NATS_SERVER") {
        let named = PathBuf::from(named);
        ensure!(is_new_enough(&named), "MUSTER_NATS_SERVER is not a NATS server of 2.10 or newer");
        return Ok(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let installed = home.map(|home| home.join(".cache/muster/tools/nats/bin/nats-server"));
    on_path.chain(installed).find(|program| program.is_file() && is_new_enough(program)).context(
        "there is no NATS server of 2.10 or newer: run the tests with `cargo xtask test`, which \
             installs one, or name one in MUSTER_NATS_SERVER",
    )
}

/// Whether the program says a version that is new enough (`nats-server: v2.15.1`).
fn is_new_enough(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((_, version)) = text.rsplit_once('v') else { return false };
    let mut numbers = version.split('.').map(|number| number.trim().parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= VERSION_MIN,
        _ => false,
    }
}
