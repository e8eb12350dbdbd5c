//! `/v1/updates`: a page learns that something changed, and nothing of what.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use muster_bus::Topic;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::kit::{Api, request};

/// Reads until the words have come; `None` when the stream ended before.
async fn until(body: &mut Body, words: &[&str]) -> Option<String> {
    let mut seen = String::new();
    let read = async {
        while !words.iter().all(|word| seen.contains(&format!("event: {word}\n"))) {
            let frame = body.frame().await?.ok()?;
            seen.push_str(std::str::from_utf8(&frame.into_data().ok()?).ok()?);
        }
        Some(())
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("in time")?;
    Some(seen)
}

#[tokio::test]
async fn changes_are_told_by_kind_once_and_never_what() {
    let api = Api::start().await;
    api.endpoint("dev-laptop", true, "dev").await;
    let dee = api.user("dee", json!([{"role": "viewer", "labels": ["dev"]}])).await;
    let asked = request(&dee, http::Method::GET, "/v1/updates", &Value::Null);
    let answer = api.router.clone().oneshot(asked).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    // What was before the first event may have been missed.
    assert_eq!(until(&mut body, &["all"]).await.unwrap(), "event: all\ndata: {}\n\n");

    api.post(&api.root, "/v1/labels", json!({"name": "secret-project"})).await.expect(201);
    let hunt = json!({"query": "SELECT 'secret'", "scope": {"labels": ["dev"]}});
    api.post(&api.root, "/v1/hunts", hunt).await.expect(201);
    let seen = until(&mut body, &["directory", "hunts"]).await.unwrap();
    assert!(!seen.contains("secret"), "{seen}");
    assert!(!seen.contains("event: all"), "{seen}");
    // Many of a kind are told once.
    for _ in 0..20 {
        api.bus.publish(Topic::Progress, bytes::Bytes::from_static(b"[7]"));
    }
    let seen = until(&mut body, &["progress"]).await.unwrap();
    assert_eq!(seen.matches("event: progress").count(), 1, "{seen}");

    // Whoever is shut out hears no more.
    api.post(&api.root, "/v1/users/dee/disable", Value::Null).await.expect(204);
    assert_eq!(until(&mut body, &["never"]).await, None);
}

#[tokio::test]
async fn an_account_has_so_many_pages_and_a_closed_one_makes_room() {
    let api = Api::start().await;
    let watch = || async {
        let asked = request(&api.root, http::Method::GET, "/v1/updates", &Value::Null);
        api.router.clone().oneshot(asked).await.unwrap()
    };
    let mut pages = Vec::new();
    for _ in 0..16 {
        let answer = watch().await;
        assert_eq!(answer.status(), 200);
        pages.push(answer);
    }
    assert_eq!(watch().await.status(), 429);
    pages.pop();
    pages.push(watch().await);
    assert_eq!(pages[15].status(), 200);
    assert_eq!(watch().await.status(), 429);
}
