//! `kill -9` between two instructions: what was acknowledged is there afterwards.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_catalog::{Catalog, Options, Priority, args, statements};

statements! {
    PUT = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, 0)";
    GET = "SELECT name FROM secret WHERE name = $1";
}

const URL: &str = "MUSTER_TEST_KILL_URL";

/// Not a test by itself: what the test below starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    catalog.migrate().await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    let run = std::process::id();
    for writer in 0..16 {
        let catalog = catalog.clone();
        writers.spawn(async move {
            for n in 0.. {
                let name = format!("{run}.{writer}.{n}");
                let mut tx = catalog.begin(Priority::Api).await.unwrap();
                tx.execute(&PUT, args![&name, [0_u8; 64]]).await.unwrap();
                tx.commit().await.unwrap();
                println!("done {name}");
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("catalog.db").display());
    let mut acknowledged = Vec::new();
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(URL, &url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = Instant::now();
        for line in lines.map_while(Result::ok) {
            acknowledged.extend(line.split_once("done ").map(|(_, name)| name.to_owned()));
            if acknowledged.len() >= round * 60 {
                child.kill().unwrap();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the child does nothing");
        }
        child.wait().unwrap();
    }
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    for name in &acknowledged {
        let found = catalog.fetch_optional(&GET, args![name]).await.unwrap();
        assert!(found.is_some(), "{name} was acknowledged and is lost");
    }
    assert!(acknowledged.len() >= 300, "{} acknowledged", acknowledged.len());
    catalog.close().await;
}
