//! Stopping the time of a process.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};

/// Threads of a process stand still by then.
const MOST: Duration = Duration::from_secs(20);

/// Stops the time of a process (SIGSTOP) and waits until all of its threads stand still: the signal alone
/// lets those that run go on for a moment, long enough to answer.
pub(crate) fn pause(process: Pid) -> anyhow::Result<()> {
    kill_process(process, Signal::STOP)?;
    let deadline = Instant::now() + MOST;
    let pid = process.as_raw_nonzero();
    let tasks = format!("/proc/{pid}/task");
    let stands = |task: &std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    };
    while !std::fs::read_dir(&tasks)?.flatten().all(|task| stands(&task)) {
        ensure!(Instant::now() < deadline, "process {pid} does not stand still");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
