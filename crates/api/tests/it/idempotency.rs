//! `Idempotency-Key`.

use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::{Value, json};

use crate::kit::{Answer, Api, request};

async fn keyed(api: &Api, token: &str, key: &str, path: &str, body: Value) -> Answer {
    let mut request = request(token, Method::POST, path, &body);
    request.headers_mut().insert("idempotency-key", HeaderValue::from_str(key).unwrap());
    api.send(request).await
}

#[tokio::test]
async fn the_same_change_happens_once_and_is_answered_alike() {
    let api = Api::start().await;
    let new = json!({"name": "ana"});
    keyed(&api, &api.root, "k1", "/v1/users", new.clone()).await.expect(201);
    // The answer held a password: it is not told twice, and no second user was tried.
    keyed(&api, &api.root, "k1", "/v1/users", new).await.refused(409, "answer_not_kept");
    let other = json!({"name": "bob"});
    keyed(&api, &api.root, "k1", "/v1/users", other).await.refused(422, "idempotency_key_reused");

    let path = "/v1/users/ana/disable";
    keyed(&api, &api.root, "k2", path, Value::Null).await.expect(204);
    let again = keyed(&api, &api.root, "k2", path, Value::Null).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    again.expect(204);
    assert_eq!(api.audited("operation=users.disable").await.len(), 1);

    // Refusals are kept too, except those that may go better next time.
    let path = "/v1/users/bob/disable";
    keyed(&api, &api.root, "k3", path, Value::Null).await.refused(404, "not_found");
    api.post(&api.root, "/v1/users", json!({"name": "bob"})).await.expect(201);
    keyed(&api, &api.root, "k3", path, Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn keys_belong_to_their_caller_and_end_after_a_day() {
    let api = Api::start().await;
    let boss = api.user("boss", json!([{"role": "administrator"}])).await;
    keyed(&api, &api.root, "k", "/v1/users/boss/enable", Value::Null).await.expect(204);
    let theirs = keyed(&api, &boss, "k", "/v1/users/local/enable", Value::Null).await;
    assert!(theirs.headers.get("idempotent-replayed").is_none());
    theirs.expect(204);
    api.clock.advance(Duration::from_secs(24 * 3600 + 1));
    // The sweep comes with the next new key.
    keyed(&api, &api.root, "k'", "/v1/users/boss/enable", Value::Null).await.expect(204);
    let anew = keyed(&api, &api.root, "k", "/v1/users/boss/enable", Value::Null).await;
    assert!(anew.headers.get("idempotent-replayed").is_none());
}

#[tokio::test]
async fn a_concurrent_duplicate_is_refused() {
    let api = Api::start().await;
    let new = json!({"name": "ana"});
    let tries: Vec<_> =
        (0..4).map(|_| keyed(&api, &api.root, "k", "/v1/users", new.clone())).collect();
    let answers = futures_util::future::join_all(tries).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.status, 409);
    }
}
