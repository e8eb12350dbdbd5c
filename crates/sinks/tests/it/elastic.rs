//! Elasticsearch: a server that fails, hangs, takes parts of a bulk and refuses others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};

use muster_results::RowClass;
use muster_sinks::{Batch, Destination, ElasticAuth};
use serde_json::{Value, json};

use crate::kit::{World, n_of, rows};
use crate::server::{Got, Server, answer, hang};

#[derive(Default)]
struct Index {
    documents: BTreeMap<String, Value>,
    /// Ids that were created twice: never, since a create of a known id is a conflict.
    conflicts: usize,
}

type Shared = Arc<Mutex<Index>>;

/// Takes a bulk as the real one does; rows whose `n` ends in 13 cannot be mapped.
fn bulk(index: &Shared, got: &Got, busy: bool) -> Value {
    let lines = got.lines();
    let mut index = index.lock().unwrap();
    let mut items = Vec::new();
    for (at, pair) in lines.chunks(2).enumerate() {
        let (action, document) = (&pair[0]["create"], &pair[1]);
        let id = action["_id"].as_str().unwrap().to_owned();
        assert_eq!(document["event"]["id"], id.as_str());
        let n = document["muster"]["row"]["n"].as_u64();
        let item = if n.is_some_and(|n| n % 100 == 13) {
            json!({"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}})
        } else if busy && at % 3 == 1 {
            json!({"status": 429, "error": {"type": "rejected", "reason": "queue is full"}})
        } else if let Entry::Vacant(free) = index.documents.entry(id) {
            free.insert(document.clone());
            json!({"status": 201})
        } else {
            index.conflicts += 1;
            json!({"status": 409, "error": {"type": "conflict", "reason": "exists"}})
        };
        items.push(json!({"create": item}));
    }
    json!({"items": items})
}

fn to(server: &Server) -> Destination {
    Destination::Elastic {
        url: server.url(),
        index: "muster-{table}".to_owned(),
        auth: ElasticAuth::Basic,
        ca_pem: None,
        allow_private: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_there_once_whatever_fails_and_whoever_is_killed() {
    for mut world in World::both().await {
        let index = Shared::default();
        let shared = Arc::clone(&index);
        let server = Server::start(move |got| {
            let shared = Arc::clone(&shared);
            async move {
                let auth = got.headers["authorization"].to_str().unwrap();
                assert_eq!(auth, "Basic dG9wLXNlY3JldDp3b3Jk");
                assert!(got.uri.path().ends_with("/_bulk"), "{}", got.uri);
                match got.number % 7 {
                    // Away.
                    1 => answer(503, "busy"),
                    // Took everything, and the answer is lost.
                    3 => {
                        bulk(&shared, &got, false);
                        hang().await
                    }
                    // Took a part.
                    5 => answer(200, bulk(&shared, &got, true).to_string()),
                    _ => answer(200, bulk(&shared, &got, false).to_string()),
                }
            }
        })
        .await;
        let mut agents = Vec::new();
        for n in 0..5 {
            agents.push(world.endpoint(&format!("host-{n}"), "").await);
        }
        let mut new = World::new_sink("elk", to(&server));
        new.batch = Batch { rows: 25, timeout_seconds: 1, ..Batch::default() };
        world.add(&new).await;
        let mut running = world.start();
        let mut next = 0;
        for round in 0..8 {
            for agent in &agents {
                let text = rows(next..next + 10);
                world.commit("linux_processes", RowClass::Collected, &[(*agent, &text)]).await;
                next += 10;
            }
            if round % 3 == 1 {
                world.compact().await;
            }
            if round % 2 == 0 {
                // In the middle of whatever it does.
                let seen = server.requests();
                let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
                while server.requests() < seen + 2 && tokio::time::Instant::now() < deadline {
                    tokio::task::yield_now().await;
                }
                running.kill().await;
                running = world.start();
            }
        }
        let done = world
            .until("elk", "all rows done", |s| s.lag_rows == 0 && s.progress.failures == 0)
            .await;
        running.stop().await;
        let refused = next / 100;
        assert_eq!(done.progress.delivered_rows, i64::from(next - refused));
        assert_eq!(done.progress.refused_rows, i64::from(refused));
        assert_eq!((done.progress.gone_rows, done.progress.filtered_rows), (0, 0));
        assert!(done.progress.error.is_some(), "the last trouble stays visible");
        let kept = world.sinks.refused(&done.sink, 100).await.unwrap();
        assert_eq!(kept.len(), refused as usize);
        assert!(kept[0].reason.contains("mapper_parsing_exception"), "{kept:?}");
        let index = index.lock().unwrap();
        let mut found: Vec<u32> = index.documents.values().map(n_of).collect();
        found.sort_unstable();
        let expected: Vec<u32> = (0..next).filter(|n| n % 100 != 13).collect();
        assert_eq!(found, expected);
        let one = index.documents.values().next().unwrap();
        assert_eq!(one["host"]["os"]["platform"], "linux");
        assert_eq!(one["muster"]["table"], "linux_processes");
        println!("{} requests, {} conflicts", server.requests(), index.conflicts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_everything_is_not_the_rows_fault() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let server = Server::start(async |got: Got| {
        let item = json!({"create": {"status": 400, "error": {"type": "x", "reason": "never"}}});
        let items = vec![item; got.lines().len() / 2];
        answer(200, json!({"items": items}).to_string())
    })
    .await;
    world.add(&World::new_sink("elk", to(&server))).await;
    let running = world.start();
    world.commit("t", RowClass::Scheduled, &[(agent, &rows(0..3))]).await;
    let status = world.until("elk", "it fails", |s| s.progress.failures >= 3).await;
    running.stop().await;
    assert_eq!((status.progress.refused_rows, status.lag_rows), (0, 3));
    let error = status.progress.error.unwrap();
    assert!(error.contains("test event") && error.contains("never"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_for_its_rows_is_not_read() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let server = Server::start(async |_: Got| {
        let error = vec![json!([]); 400_000];
        let item = json!({"create": {"status": 400, "error": error}});
        answer(200, json!({"items": [item]}).to_string())
    })
    .await;
    world.add(&World::new_sink("elk", to(&server))).await;
    let running = world.start();
    world.commit("t", RowClass::Scheduled, &[(agent, &rows(0..1))]).await;
    let status = world.until("elk", "it fails", |s| s.progress.failures >= 1).await;
    running.stop().await;
    assert_eq!((status.progress.refused_rows, status.lag_rows), (0, 1));
    let error = status.progress.error.unwrap();
    assert!(error.contains("the answer is longer than 1049600 bytes"), "{error}");
}
