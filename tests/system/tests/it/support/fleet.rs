//! Simulated agents, in a process of their own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use muster_testkit::{Server, binary, wait_for};
use serde_json::Value;

use super::SOON;

/// A running `muster loadgen native`.
pub struct Fleet {
    child: Child,
    stdin: ChildStdin,
    report: Arc<Mutex<Value>>,
    times: Arc<Mutex<HashMap<u64, i64>>>,
    /// Names of the endpoints that carry each plant.
    pub plants: Value,
}

impl Fleet {
    /// Starts one against a server that `muster up` started.
    pub fn start(server: &Server, args: &[&str]) -> anyhow::Result<Self> {
        let data = server.data_dir();
        let mut command = Command::new(binary()?);
        command
            .args(["loadgen", "native", "--interval", "1", "--server", &server.agents_url()])
            .arg("--ca")
            .arg(data.join("ca.pem"))
            .arg("--secret-file")
            .arg(data.join("enrol-secret"))
            .args(args);
        Self::spawn(command)
    }

    /// Starts one with a command line of its own; it must print a report each second.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start muster loadgen")?;
        let stdin = child.stdin.take().context("standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("standard output")?);
        let mut stderr = BufReader::new(child.stderr.take().context("standard error")?);
        let mut first = String::new();
        stderr.read_line(&mut first)?;
        let plants = serde_json::from_str::<Value>(&first).map(|truth| truth["plants"].clone());
        let plants = plants.with_context(|| format!("muster loadgen says {first:?}"))?;
        let report = Arc::new(Mutex::new(Value::Null));
        let kept = report.clone();
        let times: Arc<Mutex<HashMap<u64, i64>>> = Arc::default();
        let first_times = times.clone();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let Ok(new) = serde_json::from_str::<Value>(&line) else { continue };
                // Each report tells of the tasks since the one before.
                for (hunt, at) in new["task_times"].as_object().into_iter().flatten() {
                    if let (Ok(hunt), Some(at)) = (hunt.parse(), at[0].as_i64()) {
                        first_times.lock().unwrap().entry(hunt).or_insert(at);
                    }
                }
                *kept.lock().unwrap() = new;
            }
        });
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| eprintln!("loadgen: {line}"));
        });
        Ok(Self { child, stdin, report, times, plants })
    }

    /// Says a word to it: online, offline, storm, report.
    pub fn say(&mut self, word: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{word}").context("the fleet has ended")
    }

    /// Its last report.
    pub fn report(&self) -> Value {
        self.report.lock().unwrap().clone()
    }

    /// When the first task of a hunt came, in microseconds since 1970, as far as it was reported; of a
    /// fleet with `--task-times`.
    pub fn task_time(&self, hunt: u64) -> Option<i64> {
        self.times.lock().unwrap().get(&hunt).copied()
    }

    /// Waits until so many have enrolled and so many are connected.
    pub fn up(&mut self, enrolled: u64, connected: u64) -> anyhow::Result<()> {
        let waited = wait_for("the fleet to come up", SOON, || {
            self.say("report")?;
            let report = self.report();
            let counts = [&report["enrolled"], &report["connected"]].map(Value::as_u64);
            Ok((counts == [Some(enrolled), Some(connected)]).then_some(()))
        });
        waited.with_context(|| self.report().to_string())
    }

    /// Waits until everybody was told that the answer to a hunt is stored; how many rows they were told
    /// of.
    pub fn acked(&mut self, hunt: u64, answers: u64) -> anyhow::Result<u64> {
        let waited = wait_for("all answers to be acknowledged", SOON, || {
            self.say("report")?;
            let of_hunt = self.report()["acked"][hunt.to_string()].clone();
            let all = of_hunt["answers"].as_u64() == Some(answers);
            Ok(of_hunt["rows"].as_u64().filter(|_| all))
        });
        waited.with_context(|| format!("hunt {hunt}: {}", self.report()))
    }

    /// Asks it to end; its last report.
    pub fn stop(mut self) -> anyhow::Result<Value> {
        self.say("stop")?;
        self.child.wait()?;
        Ok(self.report())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
