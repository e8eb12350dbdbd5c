//! Commands against a server, and what they told.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_testkit::{Instance, Server, wait_for};
use serde_json::Value;

use super::SOON;

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Told {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Told {
    /// Runs a command to its end with `input` on standard input.
    pub fn by(mut command: Command, input: &str) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start muster")?;
        match child.stdin.take().context("standard input")?.write_all(input.as_bytes()) {
            // It ended without reading, which its exit tells.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        let out = drain(child.stdout.take().context("standard output")?);
        let err = drain(child.stderr.take().context("standard error")?);
        let ended = wait_for("the command to end", SOON, || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill()?;
        }
        let [out, err] = [out, err].map(|output| output.join().expect("it only reads"));
        let code = ended.with_context(|| format!("{command:?}: {out}{err}"))?.code();
        Ok(Self { code: code.context("ended by a signal")?, out, err })
    }
}

/// Reads to the end, so that the writer never waits.
fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Asking a server by the command line.
pub trait Ask {
    /// A command with `input` on its standard input, however it ends.
    fn tell_with(&self, args: &[&str], input: &str) -> anyhow::Result<Told>;

    /// A command, however it ends.
    fn tell(&self, args: &[&str]) -> anyhow::Result<Told> {
        self.tell_with(args, "")
    }

    /// A command that must end with this exit code; its standard error.
    fn refused(&self, args: &[&str], code: i32) -> anyhow::Result<String> {
        let told = self.tell(args)?;
        ensure!(told.code == code, "muster {args:?} should have ended with {code}: {told:?}");
        Ok(told.err)
    }

    /// The JSON a command prints; exit 4 (not all have answered) is fine.
    fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let told = self.tell(&[args, &["-o", "json"]].concat())?;
        ensure!(matches!(told.code, 0 | 4), "muster {args:?}: {told:?}");
        serde_json::from_str(&told.out).with_context(|| format!("muster {args:?}: {told:?}"))
    }

    /// The list a command prints.
    fn list(&self, args: &[&str]) -> anyhow::Result<Vec<Value>> {
        match self.json(args)? {
            Value::Array(items) => Ok(items),
            other => anyhow::bail!("muster {args:?} printed no list: {other}"),
        }
    }

    /// Coverage of a hunt.
    fn coverage(&self, hunt: u64) -> anyhow::Result<Coverage> {
        self.json(&["hunt", "coverage", &hunt.to_string()]).map(Coverage)
    }

    /// Waits until a hunt's coverage is as wanted.
    fn covered(
        &self,
        hunt: u64,
        what: &str,
        wanted: impl Fn(&Coverage) -> bool,
    ) -> anyhow::Result<Coverage> {
        let mut last = Coverage(Value::Null);
        let found = wait_for(what, SOON, || {
            last = self.coverage(hunt)?;
            // A command costs a process and a TLS handshake; the server has better things to do.
            std::thread::sleep(Duration::from_millis(50));
            Ok(wanted(&last).then_some(()))
        });
        found.with_context(|| format!("hunt {hunt}: {}", last.0)).map(|()| last)
    }

    /// Waits until the server's only agent is online.
    fn agent_online(&self) -> anyhow::Result<()> {
        wait_for("the agent to be online", SOON, || {
            let agents = self.list(&["agents"])?;
            Ok(agents.iter().any(|agent| agent["online"] == true).then_some(()))
        })
    }

    /// Starts a hunt; its number.
    fn hunt(&self, args: &[&str]) -> anyhow::Result<u64> {
        let started = self.json(&[&["hunt", "start", "--yes"], args].concat())?;
        started["no"].as_u64().with_context(|| format!("no number in {started}"))
    }

    /// The rows of a question to results; `None` when the binary has no SQL engine.
    fn sql(&self, sql: &str) -> anyhow::Result<Option<Vec<Value>>> {
        if !has_sql()? {
            eprintln!("skipped, there is no SQL engine in MUSTER_BIN: {sql}");
            return Ok(None);
        }
        self.list(&["sql", sql]).map(Some)
    }
}

impl Ask for Instance {
    fn tell_with(&self, args: &[&str], input: &str) -> anyhow::Result<Told> {
        let mut command = self.command()?;
        command.args(args);
        Told::by(command, input)
    }
}

impl Ask for Server {
    fn tell_with(&self, args: &[&str], input: &str) -> anyhow::Result<Told> {
        let mut command = self.command()?;
        command.args(args);
        Told::by(command, input)
    }
}

/// Whether the binary was built with its SQL engine.
pub fn has_sql() -> anyhow::Result<bool> {
    let mut command = Command::new(muster_testkit::binary()?);
    command.arg("sql-worker");
    Ok(!Told::by(command, "")?.err.contains("no SQL engine"))
}

/// Counts of endpoints by outcome.
#[derive(Debug)]
pub struct Coverage(pub Value);

impl Coverage {
    /// One count.
    pub fn get(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("{key} in {}", self.0))
    }

    /// Whether the outcomes sum to the scope.
    pub fn sums(&self) -> bool {
        const OUTCOMES: [&str; 10] = [
            "waiting",
            "running",
            "rows",
            "empty",
            "failed",
            "timed_out",
            "unsupported",
            "cancelled",
            "expired",
            "retired",
        ];
        OUTCOMES.iter().map(|key| self.get(key)).sum::<u64>() == self.get("total")
    }

    /// Whether everybody has an outcome.
    pub fn is_complete(&self, total: u64) -> bool {
        self.get("total") == total && self.get("ended") == total
    }
}
