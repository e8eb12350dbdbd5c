//! Stream and bus of this process, shared over sockets: what several servers need of the two when the
//! test is about something else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_stream::log::{Log, LogOptions};
use muster_testkit::Stores;
use tokio_util::sync::CancellationToken;

/// Both, for as long as this lives.
pub struct Relays {
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: CancellationToken,
}

impl Relays {
    /// Serves them in a folder, and names them to the servers.
    pub fn start(dir: &Path, stores: Stores) -> anyhow::Result<(Self, Stores)> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shutdown = CancellationToken::new();
        let on_fatal = Arc::new(|problem: &str| panic!("the log: {problem}"));
        let mut options = LogOptions::new(dir.join("stream"), 1 << 30, on_fatal);
        options.reserve_bytes = 0;
        let inside = runtime.enter();
        let (stream, bus) = (dir.join("stream.sock"), dir.join("bus.sock"));
        let serving = muster_stream::relay::Server::bind(&stream, Log::open(options)?)?;
        runtime.spawn(serving.run(shutdown.clone()));
        runtime.spawn(muster_bus::relay::Server::bind(&bus)?.run(shutdown.clone()));
        drop(inside);
        let stores = stores
            .key("stream", "url", &format!("relay://{}", stream.display()))
            .key("bus", "url", &format!("relay://{}", bus.display()))
            .key("archive", "url", &format!("file://{}/archive", dir.display()));
        Ok((Self { runtime: Some(runtime), shutdown }, stores))
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}
