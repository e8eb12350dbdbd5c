//! Real NATS servers: one, or a cluster of three, with JetStream.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::nats_node::{Node, NotReady, get};
use crate::{nats_program, steady_port};

/// A cluster elects a leader first, which takes it some seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How the servers are started.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// One server, or three and more for a cluster.
    pub nodes: usize,
    /// Whether there is JetStream.
    pub jetstream: bool,
    /// Whether JetStream syncs every message to disk before it answers.
    pub sync_always: bool,
    /// What JetStream may keep on disk, on each server. Streams reserve what they may grow to.
    pub store_bytes: u64,
    /// Addresses to listen on, one per server; loopback for those not named.
    pub hosts: Vec<String>,
    /// What to put before the program of each server, such as `ip netns exec NAME`.
    pub prefixes: Vec<Vec<String>>,
    /// More lines of the servers' configuration (TLS, users).
    pub extra: String,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            jetstream: true,
            sync_always: true,
            store_bytes: 64 << 30,
            hosts: Vec::new(),
            prefixes: Vec::new(),
            extra: String::new(),
        }
    }
}

/// Running servers in a folder of their own. They end with this, and with the test process.
#[derive(Debug)]
pub struct Nats {
    nodes: Vec<Node>,
    /// Removed last.
    _dir: TempDir,
}

impl Nats {
    /// One server.
    ///
    /// # Errors
    /// When there is no NATS server or it does not start; with its log.
    pub fn start() -> anyhow::Result<Self> {
        Self::with(&NatsOptions::default())
    }

    /// Three servers that hold everything three times.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub fn cluster() -> anyhow::Result<Self> {
        Self::with(&NatsOptions { nodes: 3, ..NatsOptions::default() })
    }

    /// As the options say.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub fn with(options: &NatsOptions) -> anyhow::Result<Self> {
        let program = nats_program()?;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::launch(&program, options) {
                // Somebody else was quicker at one of the ports.
                Err(error) if tries < 5 && error.is::<NotReady>() => {}
                result => return result,
            }
        }
    }

    fn launch(program: &Path, options: &NatsOptions) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("muster-nats-").tempdir()?;
        let cluster =
            format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let places = places(options)?;
        let mut nodes = Vec::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            let name = format!("{cluster}-{index}");
            let dir = dir.path().join(&name);
            std::fs::create_dir(&dir)?;
            let text = configuration(options, &cluster, &name, &dir, place, &places);
            std::fs::write(dir.join("nats.conf"), text)?;
            let prefix = options.prefixes.get(index).cloned().unwrap_or_default();
            let (client, monitor) = (place.address(0), place.address(2));
            nodes.push(Node::new(program.to_owned(), prefix, dir, name, client, monitor));
        }
        let mut nats = Self { nodes, _dir: dir };
        for node in &mut nats.nodes {
            node.start()?;
        }
        nats.wait_ready()?;
        Ok(nats)
    }

    /// `nats://` with the addresses of all servers, separated by commas.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| node.client.as_str()).collect();
        format!("nats://{}", addresses.join(","))
    }

    /// `nats://` with the address of one server.
    #[must_use]
    pub fn url_of(&self, node: usize) -> String {
        format!("nats://{}", self.nodes[node].client)
    }

    /// `http://` address where one server can be looked at.
    #[must_use]
    pub fn monitor_url(&self, node: usize) -> String {
        format!("http://{}", self.nodes[node].monitor)
    }

    /// How many servers there are, running or not.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The process of one server, while it runs.
    #[must_use]
    pub fn pid(&self, node: usize) -> Option<u32> {
        self.nodes[node].pid()
    }

    /// The name of one server, as it appears in the cluster's answers.
    #[must_use]
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// What one server has written since it first started.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        self.nodes[node].log()
    }

    /// Ends one server at once (SIGKILL); what it has on disk stays.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].end(Signal::KILL)
    }

    /// Asks one server to end and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].end(Signal::TERM)
    }

    /// Stops the time of one server (SIGSTOP): its connections stay and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].pause()
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].signal(Signal::CONT)
    }

    /// Starts a server that was killed or stopped, on its old data and ports. Does not wait for it;
    /// see [`Nats::wait_ready`].
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].start()
    }

    /// Waits until all servers that run answer, hold what they should and have elected a leader.
    ///
    /// # Errors
    /// When that takes more than a minute; with their logs.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let clustered = self.nodes.len() > 1;
        for node in self.nodes.iter_mut().filter(|node| node.pid().is_some()) {
            while !node.is_ready(clustered)? {
                ensure!(Instant::now() < deadline, "{} is not ready:\n{}", node.name, node.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// The answer of one server's monitoring port to GET `path`, for example `/jsz?config=1`.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn monitor(&self, node: usize, path: &str) -> anyhow::Result<String> {
        get(&self.nodes[node].monitor, path).context("ask the NATS server")
    }
}

/// Where one server listens: for clients, for the other servers, for monitoring.
struct Place {
    host: String,
    ports: [u16; 3],
}

impl Place {
    fn address(&self, port: usize) -> String {
        format!("{}:{}", self.host, self.ports[port])
    }
}

fn places(options: &NatsOptions) -> anyhow::Result<Vec<Place>> {
    let place = |index: usize| {
        let host = options.hosts.get(index).map_or("127.0.0.1", String::as_str).to_owned();
        Ok(Place { host, ports: [steady_port()?, steady_port()?, steady_port()?] })
    };
    (0..options.nodes.max(1)).map(place).collect()
}

fn configuration(
    options: &NatsOptions,
    cluster: &str,
    name: &str,
    dir: &Path,
    place: &Place,
    all: &[Place],
) -> String {
    let mut text = format!(
        "server_name: {name}\nlisten: {}\nhttp: {}\nlog_file: {:?}\n{}\n",
        place.address(0),
        place.address(2),
        dir.join("log"),
        options.extra,
    );
    if options.jetstream {
        let store: PathBuf = dir.join("store");
        // Quoted: a bare `2m` is two million (of seconds).
        let sync = if options.sync_always { "always" } else { "\"2m\"" };
        text += &format!(
            "jetstream {{ store_dir: {store:?}, sync_interval: {sync}, max_mem: 64MB, max_file: {} }}\n",
            options.store_bytes
        );
    }
    if all.len() > 1 {
        let routes: Vec<String> =
            all.iter().map(|other| format!("\"nats-route://{}\"", other.address(1))).collect();
        text += &format!(
            "cluster {{ name: {cluster}, listen: {}, routes: [{}] }}\n",
            place.address(1),
            routes.join(", ")
        );
    }
    text
}
