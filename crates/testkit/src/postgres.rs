//! A real PostgreSQL: one server per test process that tests share, a database for each; or servers of
//! a test's own, which it may stop, pause, kill, follow and promote.

mod control;
mod programs;
mod standby;

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};

use self::programs::{owner, programs, run_as};

/// Ends the server and removes its folder as soon as standard input closes, which the kernel does
/// however the test process ends. A paused server is woken first, and the shared memory of one that
/// was killed is given back. A process is the server when its command line names the folder.
const GUARD: &str = r#"read -r _; cd /; file="$1/postmaster.pid"
if [ -f "$file" ]; then
  server=$(head -n 1 "$file"); memory=$(sed -n 7p "$file" | tr -s ' ' | cut -d ' ' -f 2)
  if grep -q "$1" "/proc/$server/cmdline"; then
    kill -CONT "$server" $(cat "/proc/$server/task/$server/children"); kill -QUIT "$server"
  fi
  for _ in $(seq 200); do grep -q "$1" "/proc/$server/cmdline" || break; sleep 0.05; done
  [ -n "$memory" ] && ipcrm -m "$memory"
fi 2>/dev/null
rm -rf "$2""#;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    root: PathBuf,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    databases: AtomicU32,
    _guard: Child,
}

/// What a server promises.
#[derive(Clone, Copy)]
enum Kind {
    /// Shared by all tests of a process: quick, and never killed.
    Shared,
    /// Keeps what it has acknowledged when its processes are killed.
    Own,
}

impl Postgres {
    /// The server of this process, started on the first call. Tests share it: do not stop it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the text holds its log.
    pub fn start() -> anyhow::Result<&'static Self> {
        static SERVER: OnceLock<Result<Postgres, String>> = OnceLock::new();
        SERVER
            .get_or_init(|| Self::launch(Kind::Shared).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// A server of this test's own, which it may stop, pause and kill. It ends when this is dropped.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn own() -> anyhow::Result<Self> {
        Self::launch(Kind::Own)
    }

    /// Makes an empty database and returns its URL (over the private socket).
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self) -> anyhow::Result<String> {
        let name = self.create_database()?;
        let socket = self.root.display().to_string().replace('/', "%2F");
        Ok(format!("postgres://postgres@{socket}:{}/{name}", self.port))
    }

    /// Makes an empty database and returns its URL over loopback, for servers that are followed: of
    /// several, name the hosts yourself with [`Postgres::address`].
    ///
    /// # Errors
    /// When the server refuses.
    pub fn tcp_database(&self) -> anyhow::Result<String> {
        let name = self.create_database()?;
        Ok(format!("postgres://postgres@{}/{name}", self.address()))
    }

    fn create_database(&self) -> anyhow::Result<String> {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{n}");
        self.sql(&format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))?;
        Ok(name)
    }

    /// Host and port on loopback.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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
        self.sql_in("postgres", text)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// As [`Postgres::sql`].
    pub fn sql_in(&self, database: &str, text: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.root)
            .args(["-p", &self.port.to_string(), "-d", database, "-c", text])
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .context("run psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn launch(kind: Kind) -> anyhow::Result<Self> {
        let mut last = Self::launch_once(kind);
        for _ in 0..4 {
            match last {
                Ok(server) => return Ok(server),
                Err(error) if error.to_string().contains("could not bind") => {}
                Err(error) => return Err(error),
            }
            last = Self::launch_once(kind);
        }
        last
    }

    fn launch_once(kind: Kind) -> anyhow::Result<Self> {
        let server = Self::prepare()?;
        let mut init = server.program("initdb");
        init.arg("-D").arg(server.data()).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        init.args(["--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
        let output = init.output().context("run initdb")?;
        if !output.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&output.stderr));
        }
        server.configure(kind)?;
        // Perhaps somebody else is quicker at the port. The guard cleans up.
        server.run()?;
        Ok(server)
    }

    /// A folder, a port and the guard of both; no server yet.
    fn prepare() -> anyhow::Result<Self> {
        let (programs, owner) = (programs()?, owner()?);
        let root = tempfile::Builder::new().prefix("muster-pg-").tempdir()?.keep();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = owner {
            chown(&root, Some(uid), Some(gid))?;
        }
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(root.join("data")).arg(&root).stdin(Stdio::piped());
        let guard = run_as(&mut guard, owner, &root).spawn().context("start the guard")?;
        // A server that comes back must find its port free: none that the kernel gives to clients.
        let port = crate::steady_port()?;
        Ok(Self { root, programs, owner, port, databases: AtomicU32::new(0), _guard: guard })
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// A program of PostgreSQL, as the user that the server runs as.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        run_as(&mut command, self.owner, &self.root).stdin(Stdio::null());
        command
    }

    fn configure(&self, kind: Kind) -> anyhow::Result<()> {
        let commit = match kind {
            Kind::Shared => "off",
            Kind::Own => "on",
        };
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             fsync = off\nsynchronous_commit = {commit}\nfull_page_writes = off\n\
             max_connections = 300\nshared_buffers = 32MB\nautovacuum = off\n\
             log_min_messages = warning\n",
            self.port,
            self.root.display()
        );
        std::fs::write(self.data().join("postgresql.conf"), text).context("write postgresql.conf")
    }
}

/// A loopback port that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// The server's log.
fn log_of(data: &Path) -> String {
    std::fs::read_to_string(data.join("log")).unwrap_or_default()
}
