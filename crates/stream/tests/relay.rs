//! A stream behind a socket keeps the contract too, and comes back after a restart of its server.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use muster_stream::conformance::{self, Harness, read_all, record};
use muster_stream::memory::MemoryStream;
use muster_stream::relay::{Client, Server};
use muster_stream::{AppendError, Stream};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Relays {
    dir: tempfile::TempDir,
    servers: Mutex<Vec<JoinHandle<()>>>,
    shutdown: CancellationToken,
}

impl Relays {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, servers: Mutex::default(), shutdown: CancellationToken::new() }
    }

    fn serve(&self, path: &Path, stream: Arc<dyn Stream>) {
        let server = Server::bind(path, stream).unwrap();
        self.servers.lock().push(tokio::spawn(server.run(self.shutdown.clone())));
    }
}

#[async_trait]
impl Harness for Relays {
    async fn open(&self, quota_bytes: u64) -> Arc<dyn Stream> {
        let path = self.dir.path().join(self.servers.lock().len().to_string());
        self.serve(&path, Arc::new(MemoryStream::with_quota(quota_bytes)));
        Client::new(&path)
    }

    async fn reopen(&self, stream: Arc<dyn Stream>) -> Arc<dyn Stream> {
        stream
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    let relays = Relays::new();
    conformance::all(&relays).await;
    relays.shutdown.cancel();
    for server in relays.servers.into_inner() {
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_comes_back_after_the_server() {
    let (dir, stream) = (tempfile::tempdir().unwrap(), MemoryStream::new());
    let path = dir.path().join("stream");
    let client = Client::new(&path);
    let refused = client.append(vec![record(1, "nobody there")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))));
    for n in 0..2 {
        let shutdown = CancellationToken::new();
        let server = Server::bind(&path, Arc::new(stream.clone())).unwrap();
        let server = tokio::spawn(server.run(shutdown.clone()));
        // The first call may find the connection of the server before.
        while client.append(vec![record(1, "x")]).await.is_err() {}
        assert_eq!(read_all(&*client, n + 1).await.len(), n + 1);
        shutdown.cancel();
        server.await.unwrap();
    }
}
