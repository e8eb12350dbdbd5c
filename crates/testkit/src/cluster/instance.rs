//! One instance: a `muster server` process that can be killed, stopped, paused and started again.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::network::{Network, PORTS};
use super::options::InstanceOptions;
use super::spawn;
use crate::pause::pause;
use crate::{steady_port, wait_for};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// One instance. All of its methods can be called from several threads of a test.
#[derive(Debug)]
pub struct Instance {
    name: String,
    roles: Vec<String>,
    binary: Option<PathBuf>,
    env: Vec<(String, String)>,
    prefix: Vec<String>,
    config: PathBuf,
    dir: PathBuf,
    addresses: [SocketAddr; 3],
    child: Mutex<Option<Child>>,
}

impl Instance {
    pub(super) fn new(
        index: usize,
        options: &InstanceOptions,
        env: Vec<(String, String)>,
        config: &Path,
        dir: &Path,
        network: &Network,
    ) -> anyhow::Result<Self> {
        let host = network.host(index);
        let ports = match network {
            Network::Loopback => [steady_port()?, steady_port()?, steady_port()?],
            Network::Namespaces(_) => PORTS,
        };
        let addresses = ports.map(|port| SocketAddr::new(host, port));
        let mut prefix = network.prefix(index);
        prefix.extend(options.prefix.iter().cloned());
        let mut instance = Self {
            name: format!("instance-{index}"),
            roles: options.roles.clone(),
            binary: options.binary.clone(),
            env,
            prefix,
            config: config.to_owned(),
            dir: dir.to_owned(),
            addresses,
            child: Mutex::new(None),
        };
        if let Network::Loopback = network {
            instance.env.extend(instance.listeners());
        }
        Ok(instance)
    }

    /// A second process with the same configuration, folder and identity, on ports of its own: what
    /// nobody should start. It is not started yet, and has no context.
    ///
    /// # Errors
    /// When no port is free.
    pub fn twin(&self) -> anyhow::Result<Self> {
        let mut twin = Self {
            name: self.name.clone(),
            roles: self.roles.clone(),
            binary: self.binary.clone(),
            env: self.env.clone(),
            prefix: self.prefix.clone(),
            config: self.config.clone(),
            dir: self.dir.clone(),
            addresses: self.addresses,
            child: Mutex::new(None),
        };
        for address in &mut twin.addresses {
            address.set_port(steady_port()?);
        }
        twin.env.extend(twin.listeners());
        Ok(twin)
    }

    /// Ports of its own, as environment.
    fn listeners(&self) -> Vec<(String, String)> {
        let names = ["OPERATORS", "AGENTS", "METRICS"];
        let pairs = names.iter().zip(&self.addresses);
        let pair = |(name, address): (&&str, &SocketAddr)| {
            (format!("MUSTER_LISTENERS__{name}"), address.to_string())
        };
        pairs.map(pair).collect()
    }

    /// Its name in the test: folder, log and context are called so.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.is_empty() || self.roles.iter().any(|own| own == role || own == "all")
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it runs, or does not become ready; with what it printed.
    pub fn start(&self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn launch(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        ensure!(child.is_none(), "{} is running", self.name);
        let program = match &self.binary {
            Some(other) => other.clone(),
            None => crate::binary()?,
        };
        let output = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = spawn::prefixed(&self.prefix, program.as_os_str());
        command.args(["server", "--config"]).arg(&self.config).arg("--data").arg(self.data_dir());
        if !self.roles.is_empty() {
            command.args(["--roles", &self.roles.join(",")]);
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        *child = Some(spawn::spawn(command)?);
        Ok(())
    }

    /// Waits until it wants traffic.
    ///
    /// # Errors
    /// When it has ended or that takes more than a minute; with what it printed.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let what = format!("{} to be ready", self.name);
        let waited = wait_for(&what, START_TIMEOUT, || {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}", self.name);
            }
            Ok(self.is_ready().then_some(()))
        });
        waited.with_context(|| self.log())
    }

    /// Whether it says that it wants traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// How it ended by itself, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        let mut child = self.child();
        let ended = child.as_mut().map(Child::try_wait).transpose()?.flatten();
        if ended.is_some() {
            *child = None;
        }
        Ok(ended)
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not run, or does not end in time: then it is killed.
    pub fn stop(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        bail!("{} did not end within {STOP_TIMEOUT:?} of SIGTERM:\n{}", self.name, self.log())
    }

    /// Stops its time (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        pause(self.process()?)
    }

    /// Lets its time go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.process()?, signal)?)
    }

    fn process(&self) -> anyhow::Result<Pid> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name))?;
        Pid::from_raw(i32::try_from(pid)?).context("a process id")
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// A command line of the binary under test, with a context that is signed in to this instance.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = spawn::dying(&crate::binary()?);
        command.env("MUSTER_CONFIG_DIR", self.dir.join("cli")).env("MUSTER_CONTEXT", &self.name);
        Ok(command)
    }

    /// Runs `muster …` against this instance to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn cli<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Output> {
        Ok(self.command()?.args(args).stdin(Stdio::null()).output()?)
    }

    /// Runs `muster …`, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with both outputs and the end of the log.
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, args: &[S]) -> anyhow::Result<String> {
        let output = self.cli(args)?;
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        ensure!(
            output.status.success(),
            "muster {args:?}: {}\n{out}{err}\n{}:\n{}",
            output.status,
            self.name,
            self.log()
        );
        Ok(out.into_owned())
    }

    /// The answer of its health listener to GET `path`, with its head.
    ///
    /// # Errors
    /// When nothing answers within 5 s.
    pub fn health(&self, path: &str) -> anyhow::Result<String> {
        let wait = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&self.addresses[2], wait)?;
        stream.set_read_timeout(Some(wait))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of one of its metrics, by its name with labels as it is printed.
    ///
    /// # Errors
    /// When nothing answers or there is no such sample.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.health("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in\n{text}"))?.trim().parse()?)
    }

    /// `https://` address of its operators' listener.
    #[must_use]
    pub fn operators_url(&self) -> String {
        format!("https://{}", self.addresses[0])
    }

    /// `https://` address of its agents' listener.
    #[must_use]
    pub fn agents_url(&self) -> String {
        format!("https://{}", self.addresses[1])
    }

    /// Addresses of its operators', agents' and metrics listeners.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; 3] {
        self.addresses
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// The last 16 KiB of what it has printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let from = text.len().saturating_sub(16 << 10);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text[from..].to_owned()
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.name, self.log());
        }
    }
}
