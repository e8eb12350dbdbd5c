//! Fleets: the simulator in child processes, led through their standard input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_loadgen::{Report, TaskTimes};

/// Where a fleet connects, and with what.
pub struct Target<'a> {
    /// `https://…` of the agents' listener.
    pub url: &'a str,
    /// The CA's file.
    pub ca: &'a std::path::Path,
    /// The enrolment secret.
    pub secret: &'a str,
}

/// One process of simulated agents.
struct Process {
    child: Child,
    words: ChildStdin,
    reports: Receiver<String>,
}

/// Agents in one or more processes.
pub struct Fleet {
    processes: Vec<Process>,
    /// How many agents.
    pub len: u64,
}

impl Fleet {
    /// Starts so many agents, numbered from `first`, at most `per_process` in one process. They enrol
    /// and stay away until [`Fleet::say`] `online`.
    pub fn start(
        target: &Target<'_>,
        first: u32,
        len: u32,
        per_process: u32,
        rows: u32,
    ) -> anyhow::Result<Self> {
        let mut processes = Vec::new();
        for from in (first..first + len).step_by(per_process as usize) {
            let count = per_process.min(first + len - from);
            processes.push(Process::start(target, from, count, rows)?);
        }
        Ok(Self { processes, len: u64::from(len) })
    }

    /// Says a word to all.
    pub fn say(&mut self, word: &str) -> anyhow::Result<()> {
        for process in &mut self.processes {
            writeln!(process.words, "{word}").context("talk to a simulator")?;
        }
        Ok(())
    }

    /// What happened so far; times of tasks are handed out once.
    pub fn report(&mut self) -> anyhow::Result<Sum> {
        self.say("report")?;
        let mut sum = Sum::default();
        for process in &self.processes {
            let line = process.reports.recv_timeout(Duration::from_secs(60));
            let report: Report = serde_json::from_str(&line.context("no report")?)?;
            sum.enrolled += report.enrolled;
            sum.connected += report.connected;
            sum.connects += report.connects;
            sum.acks += report.acks;
            sum.errors.extend(report.errors);
            for (hunt, times) in report.task_times {
                sum.task_times.entry(hunt).or_default().extend(times);
            }
        }
        Ok(sum)
    }

    /// Waits until a count is reached; how long that took.
    pub fn wait(
        &mut self,
        what: &str,
        most: Duration,
        done: impl Fn(&Sum, u64) -> bool,
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let sum = self.report()?;
            if done(&sum, self.len) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < most, "waited {most:?} for {what}: {sum:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Everybody drops the link and comes back; how long until all have.
    pub fn storm(&mut self) -> anyhow::Result<Duration> {
        let before = self.report()?.connects;
        self.say("storm")?;
        self.wait("a storm", Duration::from_secs(300), |sum, len| {
            sum.connects >= before + len && sum.connected == len
        })
    }
}

impl Process {
    fn start(target: &Target<'_>, first: u32, count: u32, rows: u32) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["native", "--task-times", "--interval", "864000", "--ramp", "4000"])
            .args(["--server", target.url])
            .arg("--ca")
            .arg(target.ca)
            .args(["--first", &first.to_string(), "--endpoints", &count.to_string()])
            .args(["--offline", &(first + count).to_string()])
            .args(["--canned", &rows.to_string()])
            .env("MUSTER_ENROL_SECRET", target.secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start a simulator")?;
        let words = child.stdin.take().context("no standard input")?;
        let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, words, reports })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports of all processes of a fleet, added up.
#[derive(Debug, Default)]
pub struct Sum {
    /// Agents with a number.
    pub enrolled: u64,
    /// Links that are up.
    pub connected: u64,
    /// Links that were up, all told.
    pub connects: u64,
    /// Batches acknowledged.
    pub acks: u64,
    /// What went wrong.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// When tasks were received.
    pub task_times: TaskTimes,
}
