//! Two server processes on one PostgreSQL catalog and one archive folder. Stream and bus are one
//! process's, shared over sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use muster_stream::log::{Log, LogOptions};
use muster_testkit::{Postgres, Server, ServerOptions, binary, steady_port, wait_for};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::join::copy;
use crate::support::{AgentProcess, Ask, Fleet, SOON, Told};

const AGENTS: u64 = 40;
const ROWS: u64 = 4;

/// What both servers share, and the runtime that serves stream and bus.
struct Shared {
    catalog: String,
    dir: PathBuf,
    runtime: tokio::runtime::Runtime,
    shutdown: CancellationToken,
}

impl Shared {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shutdown = CancellationToken::new();
        let on_fatal = Arc::new(|problem: &str| panic!("the log: {problem}"));
        let mut options = LogOptions::new(dir.join("stream"), 1 << 30, on_fatal);
        options.reserve_bytes = 0;
        let catalog = Postgres::start()?.database()?;
        let _inside = runtime.enter();
        let stream =
            muster_stream::relay::Server::bind(&dir.join("stream.sock"), Log::open(options)?)?;
        let bus = muster_bus::relay::Server::bind(&dir.join("bus.sock"))?;
        runtime.spawn(stream.run(shutdown.clone()));
        runtime.spawn(bus.run(shutdown.clone()));
        drop(_inside);
        Ok(Self { catalog, dir: dir.to_owned(), runtime, shutdown })
    }

    fn keys(&self) -> [(&'static str, &'static str, String); 5] {
        let dir = self.dir.display();
        [
            ("catalog", "url", self.catalog.clone()),
            ("archive", "url", format!("file://{dir}/archive")),
            ("stream", "url", format!("relay://{dir}/stream.sock")),
            ("bus", "url", format!("relay://{dir}/bus.sock")),
            ("tls", "secret_key_file", format!("{dir}/secret.key")),
        ]
    }

    fn environment(&self) -> Vec<(String, String)> {
        let name = |section: &str, key: &str| format!("MUSTER_{section}__{key}").to_uppercase();
        self.keys().into_iter().map(|(section, key, value)| (name(section, key), value)).collect()
    }

    fn file(&self) -> String {
        let keys = self.keys().into_iter();
        keys.map(|(section, key, value)| format!("{section}: {{{key}: '{value}'}}\n")).collect()
    }

    fn stop(self) {
        self.shutdown.cancel();
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// The second server: `muster server --config FILE`.
struct Second {
    config: PathBuf,
    ports: [u16; 3],
    child: Child,
}

impl Second {
    fn start(shared: &Shared) -> anyhow::Result<Self> {
        let ports = [steady_port()?, steady_port()?, steady_port()?];
        let [operators, agents, metrics] = ports.map(|port| format!("'127.0.0.1:{port}'"));
        let config = shared.dir.join("second.yaml");
        let data = shared.dir.join("second");
        let text = format!(
            "data_dir: {}\nlisteners: {{operators: {operators}, agents: {agents}, metrics: {metrics}}}\n{}",
            data.display(),
            shared.file(),
        );
        std::fs::write(&config, text)?;
        let child = Self::spawn(&config)?;
        let second = Self { config, ports, child };
        second.wait_ready()?;
        Ok(second)
    }

    fn spawn(config: &Path) -> anyhow::Result<Child> {
        let mut command = Command::new(binary()?);
        command.args(["server", "--config"]).arg(config).env("MUSTER_LOG__LEVEL", "warn");
        command.stdin(Stdio::null()).spawn().context("start muster server")
    }

    fn wait_ready(&self) -> anyhow::Result<()> {
        // It listens from the moment it is built, and accepts once it runs.
        wait_for("the second server", SOON, || {
            let asked = health(self.ports[2]).unwrap_or_default();
            Ok(asked.starts_with("HTTP/1.1 200").then_some(()))
        })
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn start_again(&mut self) -> anyhow::Result<()> {
        self.child = Self::spawn(&self.config)?;
        self.wait_ready()
    }

    /// A fleet whose agents only know this server.
    fn fleet(&self, first: &Server) -> anyhow::Result<Fleet> {
        let mut command = Command::new(binary()?);
        let (server, data) = (format!("https://127.0.0.1:{}", self.ports[1]), first.data_dir());
        command
            .args(["loadgen", "native", "--interval", "1", "--server", &server])
            .args(["--endpoints", "20", "--first", "20", "--canned", "4", "--ca"])
            .arg(data.join("ca.pem"))
            .arg("--secret-file")
            .arg(data.join("enrol-secret"));
        Fleet::spawn(command)
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// What a server says about itself.
fn health(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Shards of each instance that is alive.
fn shards(server: &Server) -> anyhow::Result<Vec<u64>> {
    let instances = server.list(&["instances"])?;
    let alive = instances.iter().filter(|instance| instance["alive"] == true);
    let held = |instance: &Value| {
        let leases = instance["leases"].as_array().cloned().unwrap_or_default();
        let shards = leases.iter().find(|lease| lease["job"] == "shards");
        shards.and_then(|lease| lease["partitions"].as_u64()).unwrap_or(0)
    };
    Ok(alive.map(held).collect())
}

fn shards_become(server: &Server, wanted: &[u64]) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut last = Vec::new();
    wait_for("leases to be split", SOON, || {
        last = shards(server)?;
        std::thread::sleep(Duration::from_millis(50));
        Ok((last == wanted).then_some(()))
    })
    .with_context(|| format!("{last:?}, not {wanted:?}"))?;
    Ok(began.elapsed())
}

#[test]
fn two_servers_share_the_work_and_one_takes_over() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let shared = Shared::start(dir.path())?;
    let first =
        Server::up(ServerOptions { env: shared.environment(), args: vec!["--no-agent".into()] })?;
    let mut second = Second::start(&shared)?;
    shards_become(&first, &[32, 32])?;

    let mut here = Fleet::start(&first, &["--endpoints", "20", "--canned", "4"])?;
    let mut there = second.fleet(&first)?;
    here.up(20, 20)?;
    there.up(20, 20)?;
    // An operator here asks agents that are connected there.
    let rows = wait_for("agents there to be seen here", SOON, || {
        let told = first.tell(&["query", "SELECT pid FROM processes", "--yes", "-o", "csv"])?;
        Ok((told.code == 0).then_some(told.out.lines().count() as u64 - 1))
            .map(|rows| rows.filter(|rows| *rows == AGENTS * ROWS))
    })?;
    assert_eq!(rows, AGENTS * ROWS);

    let question = ["--sql", "SELECT pid, name FROM processes", "--canary", "0", "--rate", "40"];
    let hunt = first.hunt(&question)?;
    first.covered(hunt, "the first rows", |c| c.get("rows") > 0)?;
    second.kill()?;
    let took = shards_become(&first, &[64])?;
    println!("taken over after {took:?}");
    let half = first.covered(hunt, "those here", |c| c.get("rows") >= 20)?;
    assert!(half.sums(), "{half:?}");

    second.start_again()?;
    let all = first.covered(hunt, "those there", |c| c.is_complete(AGENTS))?;
    assert!(all.sums(), "{all:?}");
    assert_eq!((all.get("rows"), all.get("row_count")), (AGENTS, AGENTS * ROWS), "{all:?}");
    shards_become(&first, &[32, 32])?;
    if let Some(rows) =
        first.sql(&format!("SELECT count(*) AS n, count(DISTINCT agent) AS a FROM hunt_{hunt}"))?
    {
        assert_eq!(rows, [serde_json::json!({"n": AGENTS * ROWS, "a": AGENTS})]);
    }
    drop((here, there, first, second));
    shared.stop();
    Ok(())
}

/// A machine is cloned with its agent, and a balancer puts the two on different instances.
#[test]
fn a_copied_agent_is_found_on_another_server() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let shared = Shared::start(dir.path())?;
    let first =
        Server::up(ServerOptions { env: shared.environment(), args: vec!["--no-agent".into()] })?;
    let second = Second::start(&shared)?;
    let (original, copied) = (dir.path().join("original"), dir.path().join("copied"));
    let ca = first.data_dir().join("ca.pem");
    let agent = |word: &str, server: &str, data: &Path| {
        let mut command = Command::new(binary()?);
        command.args(["agent", word, "--server", server, "--ca"]).arg(&ca).arg("--data").arg(data);
        anyhow::Ok(command)
    };
    let mut enrol = agent("enrol", &first.agents_url(), &original)?;
    enrol.env(
        "MUSTER_ENROL_SECRET",
        std::fs::read_to_string(first.data_dir().join("enrol-secret"))?.trim(),
    );
    let told = Told::by(enrol, "")?;
    anyhow::ensure!(told.code == 0, "{told:?}");
    copy(&original, &copied)?;

    let here = AgentProcess::run(&first, &original)?;
    first.agent_online()?;
    let there = format!("https://127.0.0.1:{}", second.ports[1]);
    let elsewhere = AgentProcess::spawn(agent("run", &there, &copied)?)?;
    let mut last = Vec::new();
    let both = wait_for("the copy to be an agent of its own", SOON, || {
        last = first.list(&["agents"])?;
        let online = last.iter().filter(|agent| agent["online"] == true).count();
        Ok((online == 2).then_some(()))
    });
    both.with_context(|| format!("{last:?}"))?;
    let clones: Vec<_> = last.iter().filter(|agent| !agent["clone_of"].is_null()).collect();
    assert_eq!(clones.len(), 1, "{last:?}");
    assert_eq!(first.metric("muster_gateway_clones_total")?, 0.0, "the older one stays");
    drop((here, elsewhere, first, second));
    shared.stop();
    Ok(())
}
