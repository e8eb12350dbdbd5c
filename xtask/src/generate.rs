//! Generated files that are kept in the repository. Tests fail when they are stale.

use crate::steps::{self, cargo};

/// Writes them again.
pub fn run() -> anyhow::Result<()> {
    let tests = [
        ("muster", "generated_files_are_fresh", &["--no-default-features"][..]),
        ("muster-api", "openapi", &[]),
        ("muster-artifact", "generated_page_is_fresh", &[]),
    ];
    for (package, test, args) in tests {
        let mut command = cargo(&["test", "--quiet", "-p", package]);
        command.args(args).arg(test);
        steps::run(command.env("MUSTER_REGENERATE", "1").env("INSTA_UPDATE", "always"))?;
    }
    Ok(())
}
