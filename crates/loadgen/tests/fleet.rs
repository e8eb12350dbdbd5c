//! A simulated fleet against a scripted server: everybody comes, counts are exact.

#[path = "../../agent/tests/common/mod.rs"]
#[expect(dead_code, reason = "the agent's tests use the rest")]
mod common;

use std::collections::BTreeMap;

use common::{Ca, Link, PATIENCE, Server};
use muster_loadgen::{NativeOptions, Report, Word};
use muster_types::Outcome;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Fleet {
    words: mpsc::Sender<Word>,
    task: JoinHandle<anyhow::Result<Report>>,
}

impl Fleet {
    fn start(server: &Server, dir: &std::path::Path) -> Self {
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, &server.ca_pem).unwrap();
        let options = NativeOptions {
            // Half of them begin where nobody listens, and go on to the next.
            servers: vec!["https://127.0.0.1:1".into(), server.url()],
            ca,
            secret: Some(common::SECRET.into()),
            secret_file: None,
            endpoints: 12,
            offline: 4,
            seed: 7,
            plants: vec!["cron-dropper=3".parse().unwrap()],
            failing: 1,
            silent: 0,
            lying: 0,
            canned: None,
            ramp: 1000,
            storm: 0,
            duration: None,
            interval: 3600,
            threads: 1,
            first: 0,
            task_times: true,
        };
        let (words, received) = mpsc::channel(1);
        let online = watch::Sender::new(false);
        let stop = CancellationToken::new();
        let task =
            tokio::spawn(muster_loadgen::run(options, online, received, stop, |_: &Report| {}));
        Self { words, task }
    }

    async fn end(self) -> Report {
        self.words.send(Word::Stop).await.unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap()
    }
}

async fn ask(links: &mut BTreeMap<u32, Link>, hunt: u64, sql: &str) -> (usize, usize) {
    let (mut rows, mut failed) = (0, 0);
    for link in links.values_mut() {
        link.task(hunt, sql).await;
    }
    for link in links.values_mut() {
        let (found, end) = link.answer(hunt).await;
        rows += found.len();
        failed += usize::from(end.outcome == Some(Outcome::Failed));
    }
    (rows, failed)
}

#[tokio::test]
async fn the_offline_come_when_called_and_the_plants_are_found() {
    let (ca, dir) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let fleet = Fleet::start(&server, dir.path());
    let mut links = BTreeMap::new();
    for _ in 0..8 {
        let (link, hello) = server.welcomed().await;
        links.insert(hello.agent_no.0, link);
    }
    let (rows, failed) = ask(&mut links, 1, "SELECT hostname FROM system_info").await;
    assert!((rows, failed) == (8, 0) || (rows, failed) == (7, 1), "{rows} {failed}");

    fleet.words.send(Word::Online).await.unwrap();
    for _ in 0..4 {
        let (link, hello) = server.welcomed().await;
        assert!(links.insert(hello.agent_no.0, link).is_none());
    }
    let (rows, failed) = ask(&mut links, 2, "SELECT hostname FROM system_info").await;
    assert_eq!((rows, failed), (11, 1));
    let sql = "SELECT path FROM file WHERE path LIKE '/etc/cron.d/sysstat%'";
    let (rows, _) = ask(&mut links, 3, sql).await;
    assert!((2..=3).contains(&rows), "three carriers, of which one may fail: {rows}");

    fleet.words.send(Word::Storm).await.unwrap();
    let mut again = BTreeMap::new();
    for _ in 0..12 {
        let (link, hello) = server.welcomed().await;
        again.insert(hello.agent_no.0, link);
    }
    assert_eq!(again.len(), 12);
    links = again;
    let (rows, _) = ask(&mut links, 4, "SELECT 1 AS x").await;
    assert_eq!(rows, 11);
    for link in links.values_mut() {
        link.settled().await;
    }
    let report = fleet.end().await;
    assert_eq!((report.enrolled, report.rekeys), (12, 0));
    assert_eq!(report.connects, 24);
    assert_eq!((report.tasks, report.acks), (44, 44), "repeats are acknowledged once");
    let stored = report.acked[&4];
    assert_eq!((stored.answers, stored.rows), (12, 11));
}
