//! The relay keeps the contract of a bus, and a restart of its server is a gap, not an end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::relay::{Client, Server};
use muster_bus::{Bus, Hint, Topic, conformance};
use tokio_util::sync::CancellationToken;

fn serve(path: &std::path::Path) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let token = CancellationToken::new();
    let server = Server::bind(path).unwrap();
    (token.clone(), tokio::spawn(server.run(token)))
}

#[tokio::test]
async fn keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus.sock");
    let _server = serve(&path);
    conformance::all(async || Client::new(&path, 64) as Arc<dyn Bus>, 64).await;
}

#[tokio::test]
async fn hints_cross_processes_and_a_restart_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus.sock");
    let (token, running) = serve(&path);
    let (a, b) = (Client::new(&path, 64), Client::new(&path, 64));
    let mut heard = b.subscribe(&[Topic::Hunts]);
    assert_eq!(heard.next().await, Some(Hint::Gap));
    let arrived = async {
        loop {
            a.publish(Topic::Hunts, Bytes::from_static(b"x"));
            let wait = tokio::time::timeout(Duration::from_millis(50), heard.next());
            match wait.await {
                Ok(Some(Hint::Message(_, content))) => break content,
                _ => continue,
            }
        }
    };
    assert_eq!(arrived.await, Bytes::from_static(b"x"));
    token.cancel();
    running.await.unwrap();
    let _again = serve(&path);
    let gap = async { while heard.next().await != Some(Hint::Gap) {} };
    tokio::time::timeout(Duration::from_secs(10), gap).await.expect("a gap after the reconnect");
}
