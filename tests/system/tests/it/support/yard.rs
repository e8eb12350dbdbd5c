//! Three instances on one PostgreSQL, with stream and bus of this process, which can take the bus away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use muster_stream::log::{Log, LogOptions};
use muster_testkit::{Cluster, ClusterOptions, Postgres, Stores};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A cluster, and the planes between its instances.
pub struct Yard {
    /// The instances.
    pub cluster: Cluster,
    bus: CancellationToken,
    shutdown: CancellationToken,
    runtime: Option<tokio::runtime::Runtime>,
    dir: TempDir,
}

impl Yard {
    /// Starts `instances` with all roles.
    pub fn start(instances: usize) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-yard-").tempdir()?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        let shutdown = CancellationToken::new();
        let on_fatal = Arc::new(|problem: &str| panic!("the log: {problem}"));
        let mut options = LogOptions::new(dir.path().join("stream"), 1 << 30, on_fatal);
        options.reserve_bytes = 0;
        let stream = dir.path().join("stream.sock");
        {
            let _inside = runtime.enter();
            let server = muster_stream::relay::Server::bind(&stream, Log::open(options)?)?;
            runtime.spawn(server.run(shutdown.clone()));
        }
        let bus = serve_bus(&runtime, dir.path())?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let stores = Stores::default()
            .key("catalog", "url", &Postgres::start()?.database()?)
            .key("archive", "url", &format!("file://{}", at("archive")))
            .key("stream", "url", &format!("relay://{}", stream.display()))
            .key("bus", "url", &format!("relay://{}", at("bus.sock")));
        let cluster = Cluster::start(&ClusterOptions::new(stores).instances(instances))?;
        Ok(Self { cluster, bus, shutdown, runtime: Some(runtime), dir })
    }

    /// Takes the bus away: hints are lost until [`Yard::mend_bus`].
    pub fn cut_bus(&self) {
        self.bus.cancel();
    }

    /// Gives it back.
    pub fn mend_bus(&mut self) -> anyhow::Result<()> {
        self.bus = serve_bus(self.runtime.as_ref().context("a runtime")?, self.dir.path())?;
        Ok(())
    }
}

fn serve_bus(runtime: &tokio::runtime::Runtime, dir: &Path) -> anyhow::Result<CancellationToken> {
    let (path, ends): (PathBuf, _) = (dir.join("bus.sock"), CancellationToken::new());
    let _inside = runtime.enter();
    let server = muster_bus::relay::Server::bind(&path)?;
    runtime.spawn(server.run(ends.clone()));
    Ok(ends)
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.bus.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
