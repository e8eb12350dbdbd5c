//! Simulated hosts in processes of their own, led through their standard input.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_loadgen::OsqueryReport;

use crate::place::Place;
use crate::sum::Sum;

/// Files of a process beside its connections.
const FILES: u64 = 200;
/// How long a report may take; a simulator that is far behind has other things to do first.
const PATIENCE: Duration = Duration::from_secs(60);

/// What hosts are like.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Hosts of one process, at most.
    pub per_process: u32,
    /// Connections that each process keeps, as behind a balancer; none: one for each request.
    pub kept: usize,
    /// More of the simulator's arguments.
    pub args: Vec<String>,
}

impl Kind {
    /// Arguments and their values.
    pub fn with(mut self, args: &[(&str, String)]) -> Self {
        self.args.extend(args.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]));
        self
    }
}

/// One process.
struct Process {
    child: Child,
    words: ChildStdin,
    reports: Receiver<String>,
}

/// Hosts in one or more processes.
#[derive(Default)]
pub struct Hosts {
    processes: Vec<Process>,
    /// How many hosts.
    pub len: u32,
}

impl Hosts {
    /// Adds hosts, numbered on from those there are, that start evenly over so many seconds.
    pub fn add(
        &mut self,
        place: &Place,
        kind: &Kind,
        count: u32,
        start: f64,
    ) -> anyhow::Result<()> {
        let processes = count.div_ceil(kind.per_process.max(1)).max(1);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let connections = match kind.kept {
            // Three loops, each with a request of its own.
            0 => u64::from(count.div_ceil(processes)) * 3,
            kept => kept as u64,
        };
        ensure!(
            limit.is_none_or(|limit| connections + FILES <= limit),
            "a simulator needs {connections} connections, and may open {limit:?} files"
        );
        for no in 0..processes {
            let (from, to) = (part(count, no, processes), part(count, no + 1, processes));
            if from < to {
                let process = Process::start(place, kind, self.len + from, to - from, start)?;
                self.processes.push(process);
            }
        }
        self.len += count;
        Ok(())
    }

    /// Says a word to all.
    pub fn say(&mut self, word: &str) -> anyhow::Result<()> {
        for process in &mut self.processes {
            writeln!(process.words, "{word}").context("talk to a simulator")?;
        }
        Ok(())
    }

    /// What happened so far.
    pub fn report(&mut self) -> anyhow::Result<Sum> {
        self.say("report")?;
        self.hear(PATIENCE)
    }

    /// Waits until all are enrolled; how long that took.
    pub fn enrolled(&mut self, most: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let sum = self.report()?;
            if sum.enrolled >= u64::from(self.len) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < most, "enrolled within {most:?}: {sum:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Ends all, each once its buffers are empty or so long after; the last reports.
    pub fn stop(mut self, most: Duration) -> anyhow::Result<Sum> {
        self.say("stop")?;
        self.hear(most + PATIENCE)
    }

    fn hear(&mut self, most: Duration) -> anyhow::Result<Sum> {
        let mut sum = Sum::default();
        for process in &self.processes {
            let line = process.reports.recv_timeout(most).context("no report")?;
            sum.add(serde_json::from_str::<OsqueryReport>(&line).context(line)?);
        }
        Ok(sum)
    }
}

/// Where part `no` of `parts` begins.
fn part(count: u32, no: u32, parts: u32) -> u32 {
    (u64::from(count) * u64::from(no) / u64::from(parts)) as u32
}

impl Process {
    fn start(
        place: &Place,
        kind: &Kind,
        first: u32,
        count: u32,
        start: f64,
    ) -> anyhow::Result<Self> {
        let exe = std::env::current_exe()?;
        let mut command = match place.cores.of_load() {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(exe);
                command
            }
            None => Command::new(exe),
        };
        let mut child = command
            .args(["hosts", "--buckets", "--interval", "864000"])
            .args(["--server", &place.server.agents_url()])
            .arg("--ca")
            .arg(place.server.data_dir().join("ca.pem"))
            .args(["--first", &first.to_string(), "--hosts", &count.to_string()])
            .args(["--start", &start.to_string(), "--keep-alive", &kind.kept.to_string()])
            .args(&kind.args)
            .env("MUSTER_ENROL_SECRET", &place.secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
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
