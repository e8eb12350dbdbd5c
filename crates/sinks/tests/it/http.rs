//! Webhooks and Splunk: what a status means, secrets, redirects and addresses.

use std::sync::{Arc, Mutex};

use muster_results::RowClass;
use muster_sinks::{Batch, Destination, Filter, Refusal, WebhookFormat};
use serde_json::{Value, json};

use crate::kit::{World, n_of, rows};
use crate::server::{Got, Server, answer};

fn webhook(url: String, allow_private: bool) -> Destination {
    Destination::Webhook {
        url,
        format: WebhookFormat::Array,
        secret_header: None,
        ca_pem: None,
        allow_private,
    }
}

fn splunk(url: String) -> Destination {
    Destination::Splunk {
        url,
        index: Some("security".to_owned()),
        source: "muster".to_owned(),
        sourcetype: "_json".to_owned(),
        ca_pem: None,
        allow_private: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_finds_the_rows_that_are_refused_for_ever() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let taken: Arc<Mutex<Vec<u32>>> = Arc::default();
    let shared = Arc::clone(&taken);
    let server = Server::start(move |got: Got| {
        let shared = Arc::clone(&shared);
        async move {
            assert_eq!(got.headers["authorization"], "Bearer top-secret:word");
            assert_eq!(got.headers["muster-envelope"], "1");
            assert_eq!(got.headers["muster-sink"], "hook");
            assert_eq!(got.headers["idempotency-key"].len(), 32);
            let events: Vec<Value> = serde_json::from_slice(&got.body).unwrap();
            if events.iter().any(|e| e["muster"]["row"]["n"].as_u64().is_some_and(|n| n % 9 == 4)) {
                return answer(422, "a row is not to our liking");
            }
            shared.lock().unwrap().extend(events.iter().map(n_of));
            answer(200, "")
        }
    })
    .await;
    world.add(&World::new_sink("hook", webhook(server.url(), true))).await;
    let running = world.start();
    world.commit("t", RowClass::Collected, &[(agent, &rows(0..40))]).await;
    let done = world.until("hook", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!((done.progress.delivered_rows, done.progress.refused_rows), (36, 4));
    let expected: Vec<u32> = (0..40).filter(|n| n % 9 != 4).collect();
    assert_eq!(*taken.lock().unwrap(), expected, "in order, each once");
    let refused = world.sinks.refused(&done.sink, 10).await.unwrap();
    assert_eq!(refused.len(), 4);
    assert!(refused[0].reason.contains("not to our liking"), "{refused:?}");
    assert!(done.progress.error.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_a_redirect() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let inner = Server::start(async |_| answer(200, "")).await;
    let to = inner.url();
    let server = Server::start(move |_| {
        let to = to.clone();
        async move {
            let mut response = answer(307, "");
            response.headers_mut().insert("location", to.parse().unwrap());
            response
        }
    })
    .await;
    let sink = world.add(&World::new_sink("hook", webhook(server.url(), true))).await;
    let running = world.start();
    world.commit("t", RowClass::Collected, &[(agent, &rows(0..1))]).await;
    let status = world.until("hook", "it fails", |status| status.progress.failures > 0).await;
    running.stop().await;
    assert!(status.progress.error.unwrap().contains("redirects are not followed"));
    assert_eq!((inner.requests(), status.lag_rows), (0, 1));
    let test = world.sinks.test(&sink).await.unwrap().unwrap_err();
    assert!(test.contains("redirects are not followed"), "{test}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_settings_are_refused_at_the_door() {
    let world = World::new().await;
    for (url, private, at) in [
        ("https://127.0.0.1/x", false, "private address"),
        ("https://[::1]/x", false, "private address"),
        ("https://10.0.0.8:8088", false, "private address"),
        ("https://169.254.169.254/latest", true, "no address that rows"),
        ("https://[::ffff:169.254.169.254]/", true, "no address that rows"),
        ("https://2852039166/", true, "no address that rows"),
        ("http://example.org/", false, "plain HTTP"),
        ("https://ana:pw@example.org/", false, "as the secret"),
        ("ftp://example.org/", true, "https://"),
        ("example.org", true, "no URL"),
    ] {
        let refused = world.try_add(&World::new_sink("s", webhook(url.to_owned(), private))).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Refusal::Invalid { at: "/destination/url", .. }), "{url}");
        assert!(refused.to_string().contains(at), "{url}: {refused}");
    }
    let file =
        |file: &str| Destination::File { file: file.to_owned(), rotate_bytes: 1 << 20, keep: 1 };
    for name in ["../x", "/etc/passwd", "a/b", "", ".x"] {
        let refused = world.try_add(&World::new_sink("s", file(name))).await.unwrap_err();
        assert!(refused.to_string().contains("not a path"), "{name}: {refused}");
    }
    let mut new = World::new_sink("s", splunk("https://splunk.example.org".to_owned()));
    new.secret = None;
    assert!(world.try_add(&new).await.unwrap_err().to_string().contains("token"));
    world.add(&World::new_sink("s", file("x"))).await;
    let again = world.try_add(&World::new_sink("s", file("x"))).await.unwrap_err();
    assert!(matches!(again, Refusal::Exists(_)), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
    let world = World::new().await;
    let server = Server::start(async |_| answer(200, "")).await;
    // Checked when it is resolved: "localhost" is no address.
    let url = format!("https://localhost:{}", server.address.port());
    let sink = world.add(&World::new_sink("s", webhook(url, false))).await;
    let why = world.sinks.test(&sink).await.unwrap().unwrap_err();
    assert!(why.contains("private address"), "{why}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_gets_events_with_their_ids_and_says_which_are_wrong() {
    let mut world = World::new().await;
    let agent = world.endpoint("büro-1", "laptops").await;
    let taken: Arc<Mutex<Vec<Value>>> = Arc::default();
    let shared = Arc::clone(&taken);
    let server = Server::start(move |got: Got| {
        let shared = Arc::clone(&shared);
        async move {
            assert_eq!(got.headers["authorization"], "Splunk top-secret:word");
            assert_eq!(got.uri.path(), "/services/collector/event");
            match got.number {
                0 => return answer(503, r#"{"text":"Server is busy","code":9}"#),
                1 => return answer(400, r#"{"text":"Incorrect index","code":7}"#),
                _ => {}
            }
            let events = got.lines();
            if events.iter().any(|e| e["event"]["muster"]["row"]["n"] == 5) {
                let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#;
                return answer(400, body);
            }
            shared.lock().unwrap().extend(events);
            answer(200, r#"{"text":"Success","code":0}"#)
        }
    })
    .await;
    let mut new = World::new_sink("hec", splunk(server.url()));
    new.batch = Batch { rows: 100, ..Batch::default() };
    world.add(&new).await;
    let running = world.start();
    world.commit("t", RowClass::Collected, &[(agent, &rows(0..12))]).await;
    let done = world.until("hec", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!((done.progress.delivered_rows, done.progress.refused_rows), (11, 1));
    assert!(done.progress.error.unwrap().contains("Incorrect index (code 7)"));
    let taken = taken.lock().unwrap();
    assert_eq!(taken.len(), 11);
    let first = &taken[0];
    assert_eq!(first["time"], "1700000000.000000");
    assert_eq!((&first["host"], &first["index"]), (&json!("büro-1"), &json!("security")));
    assert_eq!(first["fields"]["muster_id"], first["event"]["event"]["id"]);
    assert_eq!(first["event"]["tags"], json!(["laptops"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_sealed_and_never_shown() {
    let world = World::new().await;
    let new = World::new_sink("hook", webhook("https://example.org/x".to_owned(), false));
    let sink = world.add(&new).await;
    let status = world.status("hook").await;
    for shown in [format!("{new:?}"), format!("{sink:?}"), format!("{status:?}")] {
        assert!(!shown.contains("top-secret"), "{shown}");
    }
    assert!(status.sink.has_secret);
    let store = std::fs::read(world.temp.dir.path().join("catalog.db")).unwrap();
    let wal = std::fs::read(world.temp.dir.path().join("catalog.db-wal")).unwrap_or_default();
    for bytes in [store, wal] {
        assert!(!bytes.windows(10).any(|piece| piece == b"top-secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_cut_by_table_and_label_and_deletion_hides() {
    let mut world = World::new().await;
    let server = Server::start(async |_| answer(200, "")).await;
    let laptop = world.endpoint("laptop", "laptops").await;
    let other = world.endpoint("other", "").await;
    let deleted = world.endpoint("deleted", "laptops").await;
    let mut new = World::new_sink("hook", webhook(server.url(), true));
    new.filter = Filter {
        tables: vec!["linux.*".to_owned(), "errors".to_owned()],
        labels: vec!["laptops".to_owned(), "servers".to_owned()],
    };
    world.add(&new).await;
    let all = [(laptop, &*rows(0..2)), (other, &*rows(0..3)), (deleted, &*rows(0..4))];
    world.commit("linux_processes", RowClass::Collected, &all).await;
    world.commit("windows_x", RowClass::Collected, &all).await;
    world.commit("errors", RowClass::System, &[(laptop, &rows(0..1))]).await;
    world.commit("collections", RowClass::System, &all).await;
    world.commit("linux_x", RowClass::Current, &all).await;
    let endpoint = {
        let snapshot = world.directory.refresh().await.unwrap();
        snapshot.agent(deleted).unwrap().endpoint
    };
    let catalog = &world.temp.catalog;
    muster_endpoints::delete_endpoint(catalog, crate::kit::ORG, endpoint, crate::kit::NOW)
        .await
        .unwrap();
    assert_eq!(world.status("hook").await.lag_rows, 10);
    let running = world.start();
    let done = world.until("hook", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!((done.progress.delivered_rows, done.progress.filtered_rows), (3, 7));
    assert_eq!(done.progress.gone_rows, 0);
}
