//! The store goes away at every point of every operation: 503 with a time to come again, at once, and
//! never a fault of the server.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response, header};
use muster_testkit::TempCatalog;
use muster_types::SqlWorkerHello;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::coverage::{CHANGES, walk};
use crate::kit::{Adjust, Api, PASSWORD, request};

/// More questions than any operation asks.
const QUESTIONS_MAX: u64 = 300;
/// What a person may have to wait; nothing here waits for a database.
const ANSWERED: Duration = Duration::from_secs(5);

async fn answer(api: &Api, what: &str, request: Request<Body>) -> Response<Body> {
    let answer = tokio::time::timeout(ANSWERED, api.router.clone().oneshot(request)).await;
    answer.unwrap_or_else(|_| panic!("{what} hangs")).unwrap()
}

/// Calls one operation with the store away after no question, after one, and so on, until it needs no
/// more; returns how many it needed.
async fn at_every_point(api: &Api, what: &str, request: impl Fn() -> Request<Body>) -> u64 {
    for questions in 0..QUESTIONS_MAX {
        api.catalog.away_after(Some(questions));
        let answer = answer(api, what, request()).await;
        api.catalog.away_after(None);
        let status = answer.status().as_u16();
        if status < 500 {
            return questions;
        }
        let retry_after = answer.headers().get(header::RETRY_AFTER).cloned();
        let content = answer.headers().get(header::CONTENT_TYPE).cloned();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 503, "{what}, away after {questions}: {text}");
        assert!(retry_after.is_some(), "{what}, away after {questions}: no Retry-After");
        assert_eq!(content.unwrap(), "application/problem+json", "{what}");
        assert!(text.contains(r#""code":"unavailable""#), "{what}: {text}");
    }
    panic!("{what} asks without an end");
}

/// In place of the child process that answers SQL: one that finds fault with every question.
fn refusing(dir: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let message = "not here".to_owned();
    let hello = SqlWorkerHello::Error { message, user_error: true, away: false };
    let program = dir.join("sql");
    let text = format!("#!/bin/sh\necho '{}'\n", serde_json::to_string(&hello).unwrap());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn every_look_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let adjust = |with: &mut Adjust| with.sql.program = Some(refusing(dir.path()));
    let api = Api::on(TempCatalog::sqlite().await.unwrap(), adjust).await;
    api.endpoint("one", true, "l1").await;
    api.osquery_endpoint("two").await;
    for called in walk() {
        if called.method != Method::GET {
            continue;
        }
        // What is there is asked for more than what is not.
        for path in
            [called.path.clone(), called.path.replace("999999", "1").replace("nobody", "l1")]
        {
            let what = format!("{} {path}", called.operation.id);
            let asked = at_every_point(&api, &what, || {
                request(&api.root, Method::GET, &path, &Value::Null)
            });
            asked.await;
        }
    }
}

#[tokio::test]
async fn every_change_says_so() {
    let adjust = |with: &mut Adjust| with.options.approvals.hunt_above_endpoints = Some(1);
    let api = Api::on(TempCatalog::sqlite().await.unwrap(), adjust).await;
    api.endpoint("one", true, "").await;
    api.endpoint("two", false, "").await;
    api.osquery_endpoint("three").await;
    let ana = api.user("ana", json!([{"role": "administrator"}])).await;
    let bob = api.user("bob", json!([{"role": "responder"}])).await;
    let mut most = 0;
    for (method, path, body) in CHANGES {
        let decides = path.contains("/approve") || path.contains("/deny");
        let token = if decides { &bob } else { &ana };
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        let method: Method = method.parse().unwrap();
        let what = format!("{method} {path}");
        let asked = at_every_point(&api, &what, || request(token, method.clone(), path, &body));
        most = most.max(asked.await);
    }
    assert!(most > 5, "nothing was asked: {most}");
    // Signing in is what nobody has a token for.
    let body = json!({"name": "bob", "password": PASSWORD});
    at_every_point(&api, "sign in", || request("", Method::POST, "/v1/login", &body)).await;
}
