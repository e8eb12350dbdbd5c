//! Stopping a server in every way one stops, and starting it again.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Postgres, log_of};
use crate::pause::pause;
use crate::wait_for;

/// How long a server may take to start, to recover or to end.
const MOST: Duration = Duration::from_secs(60);

impl Postgres {
    /// Starts the server and waits until it answers.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        self.tidy()?;
        let mut start = self.program("pg_ctl");
        start.arg("start").arg("-D").arg(self.data()).arg("-l").arg(self.data().join("log"));
        let seconds = MOST.as_secs().to_string();
        start.args(["-w", "-s", "-t", &seconds]).stdout(std::process::Stdio::null());
        if !start.status().context("run pg_ctl")?.success() {
            bail!("postgres does not start: {}", log_of(&self.data()));
        }
        Ok(())
    }

    /// A killed server leaves its lock file, which counts as long as its process is not forgotten; that is
    /// up to whoever starts all processes here, and may take a while.
    fn tidy(&self) -> anyhow::Result<()> {
        let Some(dead) = self.written().filter(|process| is_gone(*process)) else { return Ok(()) };
        let known = format!("/proc/{}", dead.as_raw_nonzero());
        let forgotten = || Ok((!std::path::Path::new(&known).exists()).then_some(()));
        if wait_for("a dead process to be forgotten", Duration::from_secs(2), forgotten).is_err() {
            std::fs::remove_file(self.data().join("postmaster.pid"))?;
        }
        Ok(())
    }

    /// Stops it in order, closing all connections, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> anyhow::Result<()> {
        let server = self.server()?;
        kill_process(server, Signal::INT)?;
        self.ended(server)
    }

    /// Kills all its processes at once, as a machine that dies does, and waits for their end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> anyhow::Result<()> {
        // A new server refuses to start beside any that is left of the old one.
        for process in self.signal(Signal::KILL)? {
            self.ended(process)?;
        }
        Ok(())
    }

    /// Stops all its processes where they are (SIGSTOP): it keeps its connections and its port, and
    /// answers nobody.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        let all = self.signal(Signal::STOP)?;
        let (server, children) = all.split_first().context("the server does not run")?;
        pause(*server)?;
        // One that has ended by itself answers nobody either.
        children.iter().for_each(|child| _ = pause(*child));
        Ok(())
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT).map(drop)
    }

    /// Starts it again on the same data and port after [`Postgres::stop`] or [`Postgres::kill`]; one
    /// that runs is stopped first.
    ///
    /// # Errors
    /// When it does not start; the text holds its log.
    pub fn restart(&self) -> anyhow::Result<()> {
        if self.server().is_ok() {
            self.stop()?;
        }
        self.run()
    }

    /// The first process of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.server().ok()?.as_raw_nonzero().get()).ok()
    }

    /// The first process of the server.
    fn server(&self) -> anyhow::Result<Pid> {
        self.written().filter(|process| self.is(*process)).context("the server does not run")
    }

    /// The process that the server's lock file names, dead or alive.
    fn written(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    /// Whether a process is this server: its command line names the folder, and is empty once it is
    /// dead.
    fn is(&self, process: Pid) -> bool {
        let file = format!("/proc/{}/cmdline", process.as_raw_nonzero());
        let line = std::fs::read(file).unwrap_or_default();
        let folder = self.data();
        line.split(|byte| *byte == 0).any(|word| word == folder.as_os_str().as_bytes())
    }

    /// Sends a signal to all its processes, first to the one that makes the others; returns them.
    fn signal(&self, signal: Signal) -> anyhow::Result<Vec<Pid>> {
        let server = self.server()?;
        let mut all = vec![server];
        // Once the first is gone nobody knows its children any more.
        all.extend(children(server));
        kill_process(server, signal)?;
        all.extend(children(server));
        for process in all.iter().skip(1) {
            // One that has ended by itself needs no signal.
            let _ = kill_process(*process, signal);
        }
        Ok(all)
    }

    fn ended(&self, server: Pid) -> anyhow::Result<()> {
        wait_for("the end of postgres", MOST, || Ok((!self.is(server)).then_some(())))
            .with_context(|| log_of(&self.data()))
    }
}

fn children(of: Pid) -> Vec<Pid> {
    let raw = of.as_raw_nonzero();
    let listed = std::fs::read_to_string(format!("/proc/{raw}/task/{raw}/children"));
    let listed = listed.unwrap_or_default();
    listed.split_whitespace().filter_map(|one| Pid::from_raw(one.parse().ok()?)).collect()
}

/// Ended, or dead and only not yet noticed by its parent: it has no command line then.
fn is_gone(process: Pid) -> bool {
    let file = format!("/proc/{}/cmdline", process.as_raw_nonzero());
    std::fs::read(file).map_or(true, |line| line.is_empty())
}
