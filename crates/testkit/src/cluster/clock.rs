//! A wall clock that jumps under a running server.
//!
//! The kernel has no namespace for the wall clock, only for the monotonic ones. So a small library is
//! preloaded that moves what `clock_gettime` says by an offset in a shared page: everything in the
//! process sees the jump, and nothing of it is in the program under test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

const SOURCE: &str = include_str!("clock.c");

/// The clock of the processes that are started with [`SkewedClock::env`].
#[derive(Clone, Debug)]
pub struct SkewedClock {
    library: PathBuf,
    offset: PathBuf,
}

impl SkewedClock {
    /// Makes one in a folder; needs a C compiler.
    ///
    /// # Errors
    /// When there is none; with what it said.
    pub fn make(dir: &Path) -> anyhow::Result<Self> {
        let source = dir.join("clock.c");
        let (library, offset) = (dir.join("clock.so"), dir.join("clock-offset"));
        std::fs::write(&source, SOURCE)?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let output =
            compile.output().context("start cc (Debian: apt-get install gcc libc6-dev)")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        let clock = Self { library, offset };
        clock.jump(0)?;
        Ok(clock)
    }

    /// Environment of a process that follows this clock.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("MUSTER_TEST_CLOCK".to_owned(), text(&self.offset)),
        ]
    }

    /// From now on the clock is this many seconds ahead of the machine's (or behind).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn jump(&self, seconds: i64) -> anyhow::Result<()> {
        // In place: the page is mapped.
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).open(&self.offset)?;
        Ok(file.write_all(&(seconds * 1_000_000_000).to_ne_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_the_jump() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let clock = SkewedClock::make(dir.path())?;
        let told = || -> anyhow::Result<i64> {
            let output = Command::new("date").arg("+%s").envs(clock.env()).output()?;
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        let (now, years) = (told()?, 3 * 366 * 86_400);
        clock.jump(years)?;
        assert!((0..600).contains(&(told()? - now - years)));
        clock.jump(0)?;
        assert!((0..600).contains(&(told()? - now)));
        Ok(())
    }
}
