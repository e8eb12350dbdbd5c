//! The servers that are compared, each pinned to the same core.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::steady_port;

/// A certificate of the kind that Muster makes for itself: P-256.
pub struct Certificate {
    /// The certificate's file.
    pub certificate: std::path::PathBuf,
    /// The key's file.
    pub key: std::path::PathBuf,
    /// The certificate.
    pub der: rustls::pki_types::CertificateDer<'static>,
}

impl Certificate {
    /// Makes one.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { certificate, key, der: made.cert.der().clone() })
    }
}

/// A server in a process of its own; ends with this.
pub struct Pinned {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Pinned {
    /// Its process.
    pub fn pid(&self) -> u32 {
        // `taskset` becomes what it starts.
        self.child.id()
    }

    fn start(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).spawn().context("start a server")?;
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(child.try_wait()?.is_none(), "the server ended");
            ensure!(began.elapsed() < Duration::from_secs(10), "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { child, port })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_core(core: usize, program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// nginx, one process that does nothing but answer.
pub fn nginx(folder: &Path, certificate: &Certificate, core: usize) -> anyhow::Result<Pinned> {
    let port = steady_port()?;
    let text = format!(
        "daemon off;\nmaster_process off;\npid {pid};\nerror_log stderr error;\n\
         events {{ worker_connections 19900; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n\
         \x20 client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n\
         \x20 scgi_temp_path {folder}/scgi;\n  default_type application/json;\n\
         \x20 server {{\n    listen 127.0.0.1:{port} ssl backlog=16384;\n\
         \x20   ssl_certificate {certificate};\n    ssl_certificate_key {key};\n\
         \x20   ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_tickets off;\n\
         \x20   location / {{ return 200 '{answer}'; }}\n  }}\n}}\n",
        pid = folder.join("nginx.pid").display(),
        folder = folder.display(),
        certificate = certificate.certificate.display(),
        key = certificate.key.display(),
        answer = super::load::ANSWER,
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = on_core(core, "nginx".as_ref());
    command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(file);
    Pinned::start(command, port)
}

/// The HTTP layer alone.
pub fn stub(certificate: &Certificate, core: usize) -> anyhow::Result<Pinned> {
    let port = steady_port()?;
    let mut command = on_core(core, std::env::current_exe()?.as_os_str());
    command.args(["stub", "--port", &port.to_string()]);
    command.arg("--certificate").arg(&certificate.certificate).arg("--key").arg(&certificate.key);
    Pinned::start(command, port)
}

/// Pins a process, all of its threads, to a core.
pub fn pin(pid: u32, core: usize) -> anyhow::Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &pid.to_string()])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "taskset cannot pin process {pid} to core {core}");
    Ok(())
}
