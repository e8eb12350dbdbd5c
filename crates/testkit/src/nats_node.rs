//! One NATS server process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::pause::pause;

/// Runs the server and says its process id. Ends it as the line it reads says, and keeps its folder;
/// at the end of its input, which comes however the test process ends, it kills and removes.
const GUARD: &str = r#"dir=$1; shift; "$@" >>"$dir/output" 2>&1 & server=$!; echo $server
if read -r how; then kill -"$how" $server; wait $server; exit 0; fi
kill -KILL $server; wait $server; cd /; rm -rf "$dir"; rmdir "$(dirname "$dir")" 2>/dev/null"#;

const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that ended while it was waited for, most likely as a port was taken.
#[derive(Debug)]
pub(crate) struct NotReady(String);

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the NATS server does not start:\n{}", self.0)
    }
}

impl std::error::Error for NotReady {}

/// One server, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    program: PathBuf,
    prefix: Vec<String>,
    dir: PathBuf,
    pub(crate) name: String,
    pub(crate) client: String,
    pub(crate) monitor: String,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    guard: Child,
    pid: Pid,
}

impl Node {
    pub(crate) fn new(
        program: PathBuf,
        prefix: Vec<String>,
        dir: PathBuf,
        name: String,
        client: String,
        monitor: String,
    ) -> Self {
        Self { program, prefix, dir, name, client, monitor, running: None }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let running = self.running.as_ref()?;
        u32::try_from(running.pid.as_raw_nonzero().get()).ok()
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        ensure!(self.running.is_none(), "{} is running", self.name);
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&self.dir)
            .args(&self.prefix)
            .arg(&self.program)
            .arg("-c")
            .arg(self.dir.join("nats.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The shell would say that the server was killed.
            .stderr(Stdio::null())
            // Out of the way of a Ctrl-C at the test run, which ends it through the guard.
            .process_group(0)
            .spawn()
            .context("start a NATS server")?;
        let mut line = String::new();
        let stdout = guard.stdout.take().context("the guard's output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("the guard said {line:?}"))?;
        self.running = Some(Running { guard, pid });
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let running = self.running.as_ref();
        let running = running.with_context(|| format!("{} does not run", self.name))?;
        kill_process(running.pid, signal).context("signal a NATS server")
    }

    /// Stops its time.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        let running = self.running.as_ref();
        let running = running.with_context(|| format!("{} does not run", self.name))?;
        pause(running.pid)
    }

    /// Ends the process by this signal and keeps its folder.
    pub(crate) fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        // A paused one would not hear anything else.
        self.signal(Signal::CONT)?;
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let name = if signal == Signal::KILL { "KILL" } else { "TERM" };
        let mut input = running.guard.stdin.take().context("the guard's input")?;
        writeln!(input, "{name}")?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while running.guard.try_wait()?.is_none() {
            if Instant::now() > deadline {
                kill_process(running.pid, Signal::KILL)?;
                running.guard.wait()?;
                bail!("{} did not end within {STOP_TIMEOUT:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether the server behind the port is this one and in order.
    pub(crate) fn is_ready(&mut self, clustered: bool) -> anyhow::Result<bool> {
        if self.is_gone() {
            return Err(NotReady(self.log()).into());
        }
        let says = |path: &str, what: &str| {
            get(&self.monitor, path).is_ok_and(|answer| answer.contains(what))
        };
        let name = format!("\"server_name\": \"{}\"", self.name);
        let jetstream = get(&self.monitor, "/varz").unwrap_or_default();
        if !jetstream.contains(&name) {
            return Ok(false);
        }
        let leads =
            !clustered || !jetstream.contains("\"store_dir\"") || says("/jsz", "\"leader\"");
        Ok(leads && says("/healthz", "\"ok\""))
    }

    fn is_gone(&self) -> bool {
        let Some(running) = &self.running else { return true };
        let stat = format!("/proc/{}/stat", running.pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        !matches!(state, Some('R' | 'S' | 'D' | 'T' | 't' | 'I'))
    }

    pub(crate) fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        read("output") + &read("log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.guard.stdin.take());
            let _ = running.guard.wait();
        }
    }
}

/// The answer to a plain GET, with its head.
pub(crate) fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
