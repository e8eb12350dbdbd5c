//! nginx, Apache httpd and HAProxy in front of a cluster, with the configuration that
//! `muster generate` prints.

use std::fmt;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use muster_testkit::{Cluster, binary, steady_port, wait_for};
use tempfile::TempDir;

use super::SOON;

/// Runs a program until standard input ends, however that happens, and then ends all of its processes.
const GUARD: &str = r#"set -m; "$@" </dev/null & group=$!; cat >/dev/null
kill -TERM -- "-$group" 2>/dev/null; sleep 0.3; kill -KILL -- "-$group" 2>/dev/null"#;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `nginx`.
    Nginx,
    /// `apache2`.
    Apache,
    /// `haproxy`.
    Haproxy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Haproxy => "haproxy",
        })
    }
}

/// A balancer that runs.
pub struct Balancer {
    guard: Child,
    dir: TempDir,
    ports: [u16; 2],
}

impl Balancer {
    /// Starts one with what `muster generate` prints for these arguments. It comes to the instances from
    /// `from`, so that its address is not the clients'; `None` leaves that to the kernel.
    pub fn start(
        kind: Kind,
        cluster: &Cluster,
        from: Option<[&str; 2]>,
        args: &[&str],
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-balancer-").tempdir()?;
        // Apache's processes are another user's.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let ports = [steady_port()?, steady_port()?];
        let certificate = certificate(cluster)?;
        let mut command = cluster.instance(0).command()?;
        command.args(["generate", &kind.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--operators-port", &ports[0].to_string()]);
        command.args(["--agents-port", &ports[1].to_string()]);
        command.arg("--certificate").arg(certificate);
        command.arg("--ca").arg(&cluster.access()?.ca).args(args);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
        let text = String::from_utf8(output.stdout)?;
        let program = match kind {
            Kind::Nginx => nginx(dir.path(), &text, from)?,
            Kind::Apache => apache(dir.path(), &text, from)?,
            Kind::Haproxy => haproxy(dir.path(), &text, from)?,
        };
        let log = std::fs::File::create(dir.path().join("output"))?;
        let mut guard = Command::new("bash");
        guard.args(["-c", GUARD, "guard"]).args(program);
        guard.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let balancer = Self { guard: guard.spawn().context("start bash")?, dir, ports };
        let answers = || {
            let is_open = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            Ok(ports.iter().all(is_open).then_some(()))
        };
        wait_for("the balancer to listen", SOON / 4, answers)
            .with_context(|| format!("{}\n{text}", balancer.log()))?;
        Ok(balancer)
    }

    /// `https://` address for operators.
    pub fn operators_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    /// `https://` address for agents.
    pub fn agents_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[1])
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        if std::thread::panicking() {
            eprintln!("balancer:\n{}", self.log());
        }
    }
}

/// A certificate of the cluster's CA, made once.
fn certificate(cluster: &Cluster) -> anyhow::Result<PathBuf> {
    let out = cluster.scratch().join("balancer");
    let made = out.join("balancer.pem");
    if !made.exists() {
        std::fs::create_dir_all(&out)?;
        let mut command = Command::new(binary()?);
        command.args(["generate", "certificate", "--name", "127.0.0.1", "--name", "localhost"]);
        command.arg("--config").arg(cluster.config()).arg("--out").arg(&out);
        command.arg("--data").arg(cluster.scratch().join("certificate-data"));
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
    }
    Ok(made)
}

/// The `http` and the `stream` block may come from different addresses.
fn nginx(dir: &Path, text: &str, from: Option<[&str; 2]>) -> anyhow::Result<Vec<String>> {
    let [http, stream] = from.unwrap_or_default();
    let mut text = text.to_owned();
    if from.is_some() {
        text = text.replace("\nstream {\n", &format!("\nstream {{\n    proxy_bind {stream};\n"));
        text = text.replace("\nhttp {\n", &format!("\nhttp {{\n    proxy_bind {http};\n"));
    }
    // The system's folders belong to another user, and so does the log.
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {}/{name};\n", dir.display()))
        .concat();
    text = text.replace("\nhttp {\n", &format!("\nhttp {{\n    access_log off;\n{folders}"));
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text)?;
    let user = if rustix::process::geteuid().is_root() { "user root; " } else { "" };
    let global = format!(
        "daemon off; {user}pid {0}/pid; error_log stderr warn; worker_shutdown_timeout 1s;",
        dir.display()
    );
    let file = file.display().to_string();
    Ok(["nginx", "-e", "stderr", "-c", &file, "-g", &global].map(str::to_owned).into())
}

fn haproxy(dir: &Path, text: &str, from: Option<[&str; 2]>) -> anyhow::Result<Vec<String>> {
    let [http, stream] = from.unwrap_or_default();
    // As many descriptors as this process may have.
    let mut text = text.replace("maxconn 100000", "maxconn 2000");
    if from.is_some() {
        for (mode, from) in [("http", http), ("tcp", stream)] {
            // Comments may stand between the two lines.
            let (mut rewritten, mut in_mode) = (String::new(), false);
            for line in text.lines() {
                let begins = line == format!("    mode {mode}");
                in_mode = (in_mode || begins) && !line.starts_with("frontend");
                if in_mode && line.starts_with("    balance") {
                    rewritten += &format!("    source {from}\n");
                    in_mode = false;
                }
                rewritten += &format!("{line}\n");
            }
            text = rewritten;
        }
    }
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    Ok(["haproxy", "-db", "-f", &file.display().to_string()].map(str::to_owned).into())
}

/// The site in a whole configuration: modules, and folders of its own.
fn apache(dir: &Path, text: &str, from: Option<[&str; 2]>) -> anyhow::Result<Vec<String>> {
    const MODULES: &[&str] = &[
        "mpm_event",
        "authz_core",
        "headers",
        "reqtimeout",
        "ssl",
        "proxy",
        "proxy_http",
        "proxy_wstunnel",
        "proxy_balancer",
        "proxy_hcheck",
        "lbmethod_bybusyness",
        "slotmem_shm",
        "remoteip",
    ];
    let site = dir.join("muster.conf");
    std::fs::write(&site, text)?;
    let mut whole = format!(
        "ServerRoot {0}\nServerName localhost\nDefaultRuntimeDir {0}\nPidFile {0}/pid\n\
         Mutex posixsem\nErrorLog /dev/stderr\nLogLevel warn\n",
        dir.display()
    );
    for module in MODULES {
        whole += &format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n");
    }
    if rustix::process::geteuid().is_root() {
        whole += "User www-data\nGroup www-data\n";
    }
    if let Some([http, _]) = from {
        whole += &format!("ProxySourceAddress {http}\n");
    }
    whole += &format!("Include {}\n", site.display());
    let file = dir.join("httpd.conf");
    std::fs::write(&file, whole)?;
    Ok(["apache2", "-DFOREGROUND", "-f", &file.display().to_string()].map(str::to_owned).into())
}
