//! A real S3 server (MinIO) with one empty bucket, on loopback, in a temporary folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::pause::pause;
use crate::steady_port;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the server and says its process id. Ends it as the line it reads says; at the end of its
/// input, which comes however the test process ends, it kills the server and removes its folder.
const GUARD: &str = r#"dir=$1; shift; "$@" >>"$dir/output" 2>&1 & server=$!; echo $server
if read -r how; then kill -"$how" $server; wait $server; exit 0; fi
kill -KILL $server; wait $server; cd /; rm -rf "$dir""#;

/// The server: `MUSTER_S3_SERVER`, or `minio` on the path, or the one that `cargo xtask test` installs.
///
/// # Errors
/// When there is none, with what to do.
pub fn s3_program() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("MUSTER_S3_SERVER") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("minio"));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let installed = home.map(|home| home.join(".cache/muster/tools/s3/minio"));
    on_path.chain(installed).find(|program| program.is_file()).context(
        "there is no S3 server: run the tests with `cargo xtask test`, which installs one, or name \
         a MinIO in MUSTER_S3_SERVER",
    )
}

/// A server with its objects on disk: they are there again after a kill and a restart.
#[derive(Debug)]
pub struct S3 {
    dir: TempDir,
    port: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    guard: Child,
    pid: Pid,
}

impl S3 {
    /// The bucket that is there.
    pub const BUCKET: &str = "muster-test";
    /// Who may use it,
    pub const ACCESS_KEY: &str = "muster-access";
    /// and the secret for it.
    pub const SECRET_KEY: &str = "muster-secret-key";

    /// Starts a server on a free port and makes its bucket.
    ///
    /// # Errors
    /// When there is no program, or it does not start.
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-s3-").tempdir()?;
        // On one drive a folder is a bucket.
        std::fs::create_dir_all(dir.path().join("data").join(Self::BUCKET))?;
        let mut server = Self { dir, port: 0, running: None };
        let mut last = Ok(());
        for _ in 0..4 {
            server.port = steady_port()?;
            last = server.restart();
            if last.is_ok() {
                return Ok(server);
            }
        }
        last.map(|()| server)
    }

    /// Starts it again on the same port with the same objects; it must have been stopped or killed.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        ensure!(self.running.is_none(), "the S3 server is running");
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(self.dir.path())
            .arg(s3_program()?)
            .args(["server", "--quiet", "--address", &self.address()])
            .arg(self.dir.path().join("data"))
            .env("MINIO_ROOT_USER", Self::ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", Self::SECRET_KEY)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off")
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of the way of a Ctrl-C at the test run, which ends it through the guard.
            .process_group(0)
            .spawn()
            .context("start an S3 server")?;
        let mut line = String::new();
        let stdout = guard.stdout.take().context("the guard's output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("the guard said {line:?}"))?;
        self.running = Some(Running { guard, pid });
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.is_ready() {
            if Instant::now() > deadline || self.is_gone() {
                let log = std::fs::read_to_string(self.dir.path().join("output"));
                let _ = self.end(Signal::KILL);
                bail!("the S3 server does not start:\n{}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it is still there after 30 s.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::KILL)
    }

    /// Stops it in its tracks: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        pause(self.running.as_ref().context("the S3 server does not run")?.pid)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let running = self.running.as_ref()?;
        u32::try_from(running.pid.as_raw_nonzero().get()).ok()
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What `archive.s3.endpoint` is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What `archive.url` is set to; `prefix` may be empty.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", Self::BUCKET).trim_end_matches('/').to_owned()
    }

    /// The same as environment of a `muster` process, with the usual variables for the credentials.
    #[must_use]
    pub fn env(&self, prefix: &str) -> Vec<(String, String)> {
        [
            ("MUSTER_ARCHIVE__URL", self.url(prefix)),
            ("MUSTER_ARCHIVE__S3__ENDPOINT", self.endpoint()),
            ("MUSTER_ARCHIVE__S3__ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The `archive:` section of a configuration file; the secret is in a file beside the objects.
    ///
    /// # Errors
    /// When that file cannot be written.
    pub fn config(&self, prefix: &str) -> anyhow::Result<String> {
        let secret = self.dir.path().join("secret");
        std::fs::write(&secret, Self::SECRET_KEY)?;
        Ok(format!(
            "archive:\n  url: {}\n  s3: {{endpoint: '{}', access_key_id: {}, \
             secret_access_key_file: {}, allow_http: true}}\n",
            self.url(prefix),
            self.endpoint(),
            Self::ACCESS_KEY,
            secret.display()
        ))
    }

    /// Its temporary folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("the S3 server does not run")?;
        kill_process(running.pid, signal).context("signal the S3 server")
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
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
                bail!("the S3 server did not end within {STOP_TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        let Some(pid) = self.pid() else { return true };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        !matches!(state, Some('R' | 'S' | 'D' | 'T' | 't' | 'I'))
    }

    /// Whether this very process serves the port: `/health/ready` of a stranger says nothing.
    fn is_ready(&self) -> bool {
        let ask = || -> anyhow::Result<String> {
            let mut stream = TcpStream::connect(self.address())?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let host = self.address();
            write!(
                stream,
                "GET /minio/health/cluster HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        !self.is_gone() && ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = kill_process(running.pid, Signal::CONT);
            drop(running.guard.stdin.take());
            let _ = running.guard.wait();
        }
    }
}
