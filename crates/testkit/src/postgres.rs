//! A real PostgreSQL, one server per test process, one database per call.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the server and removes its folder as soon as standard input closes, which the kernel does
/// however the test process ends.
const GUARD: &str = r#""$0"/postgres -D "$1" >"$1/log" 2>&1 & server=$!
read -r _; cd /; kill -QUIT $server; wait $server; rm -rf "$2""#;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    socket_dir: PathBuf,
    programs: PathBuf,
    port: u16,
    databases: AtomicU32,
    _guard: Child,
}

impl Postgres {
    /// The server of this process, started on the first call.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the text holds its log.
    pub fn start() -> anyhow::Result<&'static Self> {
        static SERVER: OnceLock<Result<Postgres, String>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::launch().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Makes an empty database and returns its URL (over the private socket).
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self) -> anyhow::Result<String> {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{n}");
        self.sql(&format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))?;
        let socket = self.socket_dir.display().to_string().replace('/', "%2F");
        Ok(format!("postgres://postgres@{socket}:{}/{name}", self.port))
    }

    /// The loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command as superuser in the database `postgres`, such as ending other sessions.
    ///
    /// # Errors
    /// When the server refuses; the text holds its words.
    pub fn sql(&self, text: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.socket_dir)
            .args(["-p", &self.port.to_string(), "-d", "postgres", "-c", text])
            .output()
            .context("run psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn launch() -> anyhow::Result<Self> {
        let mut last = Self::launch_once();
        for _ in 0..4 {
            match last {
                Ok(server) => return Ok(server),
                Err(error) if error.to_string().contains("could not bind") => {}
                Err(error) => return Err(error),
            }
            last = Self::launch_once();
        }
        last
    }

    fn launch_once() -> anyhow::Result<Self> {
        let programs = programs()?;
        let owner = owner()?;
        let root = tempfile::Builder::new().prefix("muster-pg-").tempdir()?.keep();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = owner {
            chown(&root, Some(uid), Some(gid))?;
        }
        let data = root.join("data");
        let mut init = Command::new(programs.join("initdb"));
        init.args(["-D"]).arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        init.args(["--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
        let output = run_as(&mut init, owner, &root).output().context("run initdb")?;
        if !output.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&output.stderr));
        }
        let port = free_port()?;
        configure(&data, &root, port)?;
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(GUARD).arg(&programs).arg(&data).arg(&root).stdin(Stdio::piped());
        let mut guard = run_as(&mut guard, owner, &root).spawn().context("start postgres")?;
        if ready(&programs, &root, port) {
            let databases = AtomicU32::new(0);
            return Ok(Self { socket_dir: root, programs, port, databases, _guard: guard });
        }
        // Perhaps somebody else was quicker at the port. The guard cleans up.
        let log = std::fs::read_to_string(data.join("log")).unwrap_or_default();
        drop(guard.stdin.take());
        guard.wait()?;
        bail!("postgres does not start: {log}")
    }
}

fn configure(data: &Path, sockets: &Path, port: u16) -> anyhow::Result<()> {
    let text = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 300\n\
         shared_buffers = 32MB\nautovacuum = off\nlog_min_messages = warning\n",
        sockets.display()
    );
    std::fs::write(data.join("postgresql.conf"), text).context("write postgresql.conf")
}

/// Waits until the server on the private socket answers.
fn ready(programs: &Path, sockets: &Path, port: u16) -> bool {
    let started = Instant::now();
    while started.elapsed() < START_TIMEOUT {
        let mut probe = Command::new(programs.join("pg_isready"));
        probe.arg("-q").arg("-h").arg(sockets).args(["-p", &port.to_string()]);
        match probe.status() {
            Ok(status) if status.success() => return true,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
        let log = std::fs::read_to_string(sockets.join("data/log")).unwrap_or_default();
        if log.contains("could not create any TCP") || log.contains("system is shut down") {
            return false;
        }
    }
    false
}

/// Where the programs are: Debian's folder, else the folder of `postgres` in PATH.
fn programs() -> anyhow::Result<PathBuf> {
    let debian = Path::new("/usr/lib/postgresql");
    let mut found: Vec<_> = std::fs::read_dir(debian)
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.reverse();
    found.extend(std::env::split_paths(&path));
    found
        .into_iter()
        .find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
        .context("PostgreSQL is not installed (Debian: apt-get install postgresql)")
}

/// PostgreSQL refuses to run as root: then its own user runs it.
fn owner() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.context("there is no user postgres")?.split(':').skip(2);
    let mut number = || fields.next().and_then(|field| field.parse().ok()).context("/etc/passwd");
    Ok(Some((number()?, number()?)))
}

fn run_as<'a>(command: &'a mut Command, owner: Option<(u32, u32)>, dir: &Path) -> &'a mut Command {
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    // Out of the way of a Ctrl-C at the test run, which then ends the server through the guard.
    command.current_dir(dir).process_group(0)
}

/// A loopback port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
