//! Sinks that are behind: dead destinations, compaction, retention, large records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_catalog::check;
use muster_results::RowClass;
use muster_sinks::{Batch, Destination, WebhookFormat};

use crate::kit::{NOW, World, n_of, rows};
use crate::server::{Got, Server, answer, hang};
use muster_types::Timestamp;

fn to(server: &Server) -> Destination {
    Destination::Webhook {
        url: server.url(),
        format: WebhookFormat::Ndjson,
        secret_header: Some("x-key".to_owned()),
        ca_pem: None,
        allow_private: true,
    }
}

type Taken = Arc<Mutex<Vec<u32>>>;

async fn collector() -> (Server, Taken) {
    let taken = Taken::default();
    let shared = Arc::clone(&taken);
    let server = Server::start(move |got: Got| {
        let shared = Arc::clone(&shared);
        async move {
            assert_eq!(got.headers["x-key"], "top-secret:word");
            shared.lock().unwrap().extend(got.lines().iter().map(n_of));
            answer(200, "")
        }
    })
    .await;
    (server, taken)
}

#[tokio::test]
async fn statements_prepare_and_scan_nothing() {
    for temp in muster_testkit::TempCatalog::both().await.unwrap() {
        let problems = check::problems(&temp.catalog, &muster_sinks::statements()).await.unwrap();
        assert_eq!(problems, Vec::<String>::new(), "{:?}", temp.catalog.database());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_destination_holds_no_other() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let dead = Server::start(async |_| hang().await).await;
    let (live, taken) = collector().await;
    world.add(&World::new_sink("dead", to(&dead))).await;
    world.add(&World::new_sink("live", to(&live))).await;
    let running = world.start();
    for n in 0..20 {
        world.commit("t", RowClass::Collected, &[(agent, &rows(n * 3..n * 3 + 3))]).await;
    }
    world.until("live", "all rows done", |status| status.lag_rows == 0).await;
    let dead = world.status("dead").await;
    running.stop().await;
    assert_eq!((dead.lag_rows, dead.progress.delivered_rows), (60, 0));
    assert_eq!(*taken.lock().unwrap(), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_paused_finds_its_rows_after_compaction() {
    for mut world in World::both().await {
        let (server, taken) = collector().await;
        let agents = [world.endpoint("a", "").await, world.endpoint("b", "").await];
        world.commit("t", RowClass::Collected, &[(agents[0], &rows(900..910))]).await;
        world.add(&World::new_sink("hook", to(&server))).await;
        let running = world.start();
        world.commit("t", RowClass::Collected, &[(agents[0], &rows(0..25))]).await;
        world.until("hook", "first rows", |status| status.progress.delivered_rows == 25).await;
        world.set_paused("hook", true).await;
        let mut expected: Vec<u32> = (0..25).collect();
        // Enough commits for marks, and merged with rows that were sent before.
        for n in 0..100 {
            let from = 1000 + n * 4;
            let agent = agents[n as usize % 2];
            world.commit("t", RowClass::Collected, &[(agent, &rows(from..from + 4))]).await;
            expected.extend(from..from + 4);
            if n % 40 == 20 {
                tokio::time::sleep(Duration::from_millis(120)).await;
                assert!(world.compact().await > 1);
            }
        }
        let status = world.status("hook").await;
        assert_eq!((status.lag_rows, status.sink.paused), (400, true));
        world.set_paused("hook", false).await;
        let done = world.until("hook", "all rows done", |status| status.lag_rows == 0).await;
        running.stop().await;
        assert_eq!(done.progress.delivered_rows, 425);
        assert_eq!(done.progress.gone_rows, 0);
        let mut taken = taken.lock().unwrap().clone();
        taken.sort_unstable();
        assert_eq!(taken, expected, "each once, and none from before the sink");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_retention_took_first_are_counted() {
    let mut world = World::new().await;
    let (server, taken) = collector().await;
    let agent = world.endpoint("host", "").await;
    world.add(&World::new_sink("hook", to(&server))).await;
    let yesterday = Timestamp(NOW.0 - 2 * Timestamp::DAY_MICROS);
    world.commit_at("t", RowClass::Collected, &[(agent, &rows(0..30))], yesterday).await;
    world.commit("t", RowClass::Collected, &[(agent, &rows(30..40))]).await;
    world.retain().await;
    assert_eq!(world.status("hook").await.lag_rows, 40);
    let running = world.start();
    let done = world.until("hook", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!((done.progress.delivered_rows, done.progress.gone_rows), (10, 30));
    assert_eq!(*taken.lock().unwrap(), (30..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_rows_than_fit_a_window_come_in_pieces() {
    let mut world = World::new().await;
    let mut agents = Vec::new();
    for n in 0..70 {
        agents.push(world.endpoint(&format!("host-{n}"), "").await);
    }
    let counted = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&counted);
    let server = Server::start(move |got: Got| {
        sum.fetch_add(got.lines().len() as u64, Ordering::SeqCst);
        async { answer(204, "") }
    })
    .await;
    let mut new = World::new_sink("hook", to(&server));
    new.batch = Batch { rows: 5000, bytes: 8 << 20, ..Batch::default() };
    world.add(&new).await;
    // One record with more rows than a window, among many small ones.
    let mut texts: Vec<String> = (0..69).map(|n| rows(n * 400..n * 400 + 400)).collect();
    texts.push(rows(0..21_000));
    let records: Vec<_> = agents.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    world.commit("t", RowClass::Collected, &records).await;
    let running = world.start();
    let done = world.until("hook", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!(done.progress.delivered_rows, 69 * 400 + 21_000);
    assert_eq!(counted.load(Ordering::SeqCst), 69 * 400 + 21_000);
}
