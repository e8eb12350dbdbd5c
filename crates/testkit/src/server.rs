//! A real `muster` process under test: its own folder, ports and contexts.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

/// The binary under test: `MUSTER_BIN`, set by `cargo xtask test`.
///
/// # Errors
/// When it is not set, with what to do.
pub fn binary() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("MUSTER_BIN")
        .context("MUSTER_BIN is not set; run these tests with `cargo xtask test`")?;
    Ok(path.into())
}

/// A second build of the binary under test, with another page for people.
///
/// # Errors
/// When `MUSTER_OTHER_BIN` is not set.
pub fn other_binary() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("MUSTER_OTHER_BIN").context(
        "MUSTER_OTHER_BIN is not set: a build with another page; run these tests with `cargo xtask test`",
    )?;
    Ok(path.into())
}

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Environment of the server and of every command against it.
    pub env: Vec<(String, String)>,
    /// More arguments to `muster up`.
    pub args: Vec<String>,
}

/// A running `muster up` with everything it keeps in a temporary folder.
pub struct Server {
    dir: TempDir,
    data_dir: PathBuf,
    options: ServerOptions,
    child: Option<Child>,
    ports: [u16; 3],
}

impl Server {
    /// Starts `muster up` and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready within 30 s; with what it printed.
    pub fn up(options: ServerOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-test-").tempdir()?;
        let data_dir = dir.path().join("data");
        Self::up_with(dir, data_dir, options)
    }

    /// The same with its data elsewhere, for example on a small volume.
    ///
    /// # Errors
    /// As [`Server::up`].
    pub fn up_in(data_dir: PathBuf, options: ServerOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-test-").tempdir()?;
        Self::up_with(dir, data_dir, options)
    }

    fn up_with(dir: TempDir, data_dir: PathBuf, options: ServerOptions) -> anyhow::Result<Self> {
        let ports = [steady_port()?, steady_port()?, steady_port()?];
        let mut server = Self { dir, data_dir, options, child: None, ports };
        server.start()?;
        Ok(server)
    }

    /// Starts it again on the same data and ports; it must have been stopped.
    ///
    /// # Errors
    /// As [`Server::up`].
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the server is running");
        let output = std::fs::File::create(self.output_path())?;
        let child = self
            .command()?
            .arg("up")
            .arg("--data")
            .arg(self.data_dir())
            .args(&self.options.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start muster up")?;
        self.child = Some(child);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().transpose()) {
                bail!("muster up ended with {}:\n{}", status?, self.output());
            }
            if self.health("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("muster up did not become ready:\n{}", self.output())
    }

    /// The answer of the health listener to GET `path`, with its head.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn health(&self, path: &str) -> anyhow::Result<String> {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.ports[2]))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A command line of the binary with this server's environment.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .env("MUSTER_CONFIG_DIR", self.dir.path().join("config"))
            .env("MUSTER_LISTENERS__OPERATORS", format!("127.0.0.1:{}", self.ports[0]))
            .env("MUSTER_LISTENERS__AGENTS", format!("127.0.0.1:{}", self.ports[1]))
            .env("MUSTER_LISTENERS__METRICS", format!("127.0.0.1:{}", self.ports[2]))
            .envs(self.options.env.iter().map(|(k, v)| (k, v)));
        Ok(command)
    }

    /// Runs `muster …` against this server to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn cli<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Output> {
        Ok(self.command()?.args(args).stdin(Stdio::null()).output()?)
    }

    /// Runs `muster …`, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with both outputs.
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> anyhow::Result<String> {
        let output = self.cli(args)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "muster {args:?}: {}\n{stdout}{stderr}\nserver:\n{}",
                output.status,
                self.output()
            );
        }
        Ok(stdout)
    }

    /// The metrics listener's value of a sample, by its name with labels as it is printed.
    ///
    /// # Errors
    /// When nothing answers or there is no such sample.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.health("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in\n{text}"))?.trim().parse()?)
    }

    /// Kills it at once (SIGKILL), children and all that die with it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it is still there after 30 s.
    pub fn stop(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        let mut child = self.child.take().context("the server is not running")?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        bail!("the server did not end within 30 s of SIGTERM:\n{}", self.output())
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// A place for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// `https://` address of the operators' listener.
    #[must_use]
    pub fn operators_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    /// `https://` address of the agents' listener.
    #[must_use]
    pub fn agents_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[1])
    }

    /// Ports of the operators', agents' and metrics listeners.
    #[must_use]
    pub fn ports(&self) -> [u16; 3] {
        self.ports
    }

    fn output_path(&self) -> PathBuf {
        self.dir.path().join("output.txt")
    }

    /// What it has printed since its last start.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.output_path()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A free port outside the range the kernel takes clients' ports from, so that no client of a server
/// that is being restarted gets the server's port.
///
/// # Errors
/// When there is none.
pub fn steady_port() -> anyhow::Result<u16> {
    steady_ports(1)
}

/// As many of them in a row, which no other test of this process is given; the first.
///
/// # Errors
/// When there are none.
pub fn steady_ports(count: u16) -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 160).unwrap_or_default() * 100;
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..2000 {
        let first = 15_000 + (own + NEXT.fetch_add(count, Ordering::Relaxed)) % 16_000;
        if (first..first + count).all(free) {
            return Ok(first);
        }
    }
    bail!("no {count} ports in a row are free")
}

/// Waits until `condition` gives something; polls.
///
/// # Errors
/// When `within` passes first, with `what`.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
