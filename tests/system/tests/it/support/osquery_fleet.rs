//! Simulated osquery agents, in a process of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use muster_testkit::{Server, binary, wait_for};
use serde_json::Value;

use super::SOON;

/// A running `muster loadgen osquery`.
pub struct OsqueryFleet {
    child: Child,
    stdin: ChildStdin,
    report: Arc<Mutex<Value>>,
}

impl OsqueryFleet {
    /// Starts one against a server that `muster up` started.
    pub fn start(server: &Server, args: &[&str]) -> anyhow::Result<Self> {
        let data = server.data_dir();
        let secret = std::fs::read_to_string(data.join("enrol-secret"))?;
        let mut command = Command::new(binary()?);
        command
            .args(["loadgen", "osquery", "--server", &server.agents_url()])
            .arg("--ca")
            .arg(data.join("ca.pem"))
            .args(args)
            .env("MUSTER_ENROL_SECRET", secret.trim());
        Self::spawn(command)
    }

    /// Starts one with a command line of its own.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start muster loadgen")?;
        let stdin = child.stdin.take().context("standard input")?;
        let stdout = BufReader::new(child.stdout.take().context("standard output")?);
        let report = Arc::new(Mutex::new(Value::Null));
        let kept = Arc::clone(&report);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                *kept.lock().unwrap() = serde_json::from_str(&line).unwrap_or_default();
            }
        });
        Ok(Self { child, stdin, report })
    }

    /// Says a word to it: online, offline, storm, report.
    pub fn say(&mut self, word: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{word}").context("the fleet has ended")
    }

    /// Its last report.
    pub fn report(&self) -> Value {
        self.report.lock().unwrap().clone()
    }

    /// Waits until its report is as wanted.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let waited = wait_for(what, SOON, || {
            self.say("report")?;
            let report = self.report();
            Ok(wanted(&report).then_some(report))
        });
        waited.with_context(|| self.report().to_string())
    }

    /// Asks it to send what it still has and to end; its last report.
    pub fn stop(mut self) -> anyhow::Result<Value> {
        writeln!(self.stdin, "stop")?;
        let ended = wait_for("the fleet to end", SOON * 2, || Ok(self.child.try_wait()?))?;
        ensure!(ended.success(), "the fleet ended with {ended}");
        // The last line is read by then, or about to be.
        wait_for("the last report", SOON, || {
            Ok((Arc::strong_count(&self.report) == 1).then(|| self.report()))
        })
    }
}

impl Drop for OsqueryFleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
