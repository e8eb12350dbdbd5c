//! `Idempotency-Key`.

use std::time::Duration;

use http::{HeaderValue, Method};
use muster_catalog::{Priority, args, statements};
use muster_testkit::TempCatalog;
use muster_types::Timestamp;
use serde_json::{Value, json};

use crate::coverage::{CHANGES, token_of};
use crate::kit::{Adjust, Answer, Api, request};

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

/// The same change again under its key, until it is known what became of it: `201` or what says that it was done.
async fn until_known(api: &Api, what: &str, send: impl AsyncFn() -> Answer) -> Answer {
    for _ in 0..4 {
        let answer = send().await;
        let code =
            if answer.status.is_success() { Value::Null } else { answer.json()["code"].clone() };
        if answer.status.as_u16() < 500 && code != "in_progress" {
            return answer;
        }
        // Whoever reserved the key and never said more may be gone.
        api.clock.advance(Duration::from_secs(31));
    }
    panic!("{what}: nobody says what became of it")
}

async fn hunts(api: &Api) -> usize {
    api.get(&api.root, "/v1/hunts").await.expect(200)["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_made_again() {
    for temp in TempCatalog::both().await.unwrap() {
        let api = Api::on(temp, |_| {}).await;
        api.endpoint("one", true, "").await;
        let mut lost = 0;
        // The reservation's commit, the change's, and one that nobody makes.
        for commit in 1..=3 {
            let key = format!("k{commit}");
            let body = json!({"query": "SELECT 1", "title": key});
            let before = hunts(&api).await;
            let send = async || keyed(&api, &api.root, &key, "/v1/hunts", body.clone()).await;
            api.catalog.lose_commit(commit);
            let first = send().await;
            lost += usize::from(api.catalog.lose_commit(0));
            let last = until_known(&api, &key, &send).await;
            let (first, no) = (first.status.as_u16(), format!("hunt/{}", before + 1));
            match commit {
                1 => assert_eq!((first, last.status.as_u16()), (503, 201)),
                2 => {
                    assert_eq!(first, 409);
                    let detail = last.refused(409, "answer_not_kept");
                    assert!(detail.contains(&no), "{detail}");
                }
                _ => assert_eq!((first, last.status.as_u16()), (201, 201)),
            }
            assert_eq!(hunts(&api).await, before + 1, "commit {commit}");
        }
        assert_eq!(lost, 2);
        assert_eq!(api.audited("operation=hunts.create").await.len(), 3);
    }
}

#[tokio::test]
async fn a_store_that_goes_away_at_any_point_makes_no_change_twice() {
    let api = Api::start().await;
    api.endpoint("one", true, "").await;
    for questions in 0..100 {
        let key = format!("k{questions}");
        let body = json!({"query": "SELECT 1", "title": key});
        let before = hunts(&api).await;
        let send = async || keyed(&api, &api.root, &key, "/v1/hunts", body.clone()).await;
        api.catalog.away_after(Some(questions));
        let first = send().await;
        api.catalog.away_after(None);
        until_known(&api, &key, &send).await;
        assert_eq!(hunts(&api).await, before + 1, "away after {questions}");
        if first.status == 201 && send().await.headers.contains_key("idempotent-replayed") {
            return;
        }
    }
    panic!("asks without an end");
}

#[tokio::test]
async fn no_change_is_made_again_after_its_commit_was_not_answered() {
    let adjust = |with: &mut Adjust| with.options.approvals.hunt_above_endpoints = Some(1);
    let api = Api::on(TempCatalog::sqlite().await.unwrap(), adjust).await;
    api.endpoint("one", true, "").await;
    api.endpoint("two", false, "").await;
    api.osquery_endpoint("three").await;
    let ana = api.user("ana", json!([{"role": "administrator"}])).await;
    let bob = api.user("bob", json!([{"role": "responder"}])).await;
    for (n, (method, path, body)) in CHANGES.iter().enumerate() {
        // Who has signed out is not told that they have.
        if *path == "/v1/logout" {
            continue;
        }
        let decides = path.contains("/approve") || path.contains("/deny");
        let token = if decides { &bob } else { &ana };
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        // Token 1 is the one this test reads the log with.
        let own = *path == "/v1/tokens/1";
        let path = if own { token_of(&api, &ana).await } else { (*path).to_owned() };
        let before = api.audited("outcome=ok").await.len();
        let send = async || {
            let mut request = request(token, method.parse().unwrap(), &path, &body);
            request.headers_mut().insert("idempotency-key", format!("k{n}").parse().unwrap());
            api.send(request).await
        };
        api.catalog.lose_commit(2);
        send().await;
        assert!(api.catalog.lose_commit(0), "{method} {path} commits once at least");
        let last = until_known(&api, &path, &send).await;
        let what = last.refused(409, "answer_not_kept");
        // One for the change, one for the look at the records.
        let after = api.audited("outcome=ok").await.len();
        assert_eq!(after, before + 2, "{method} {path}: {what}");
    }
}

statements! {
    KEY_AT = "SELECT created_at FROM idempotency WHERE key = $1";
}

#[tokio::test]
async fn whoever_lost_a_key_to_another_changes_nothing() {
    let api = Api::on(TempCatalog::postgres().await.unwrap(), |_| {}).await;
    api.endpoint("one", true, "").await;
    let body = json!({"query": "SELECT 1"});
    let send = async || keyed(&api, &api.root, "k", "/v1/hunts", body.clone()).await;
    let reserved = async |after: Timestamp| {
        for _ in 0..1000 {
            let row = api.catalog.fetch_optional(&KEY_AT, args!["k"]).await.unwrap();
            match row.map(|row| row.get::<Timestamp>("created_at").unwrap()) {
                Some(at) if at > after => return at,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("the key is not reserved");
    };
    // Nobody can make a hunt meanwhile, so whoever has reserved the key waits.
    let mut busy = api.catalog.begin(Priority::Api).await.unwrap();
    busy.bump("hunt").await.unwrap();
    let others = async {
        let first = reserved(Timestamp(0)).await;
        api.clock.advance(Duration::from_secs(31));
        let second = async {
            reserved(first).await;
            busy.rollback().await;
        };
        tokio::join!(send(), second).0
    };
    let (late, second) = tokio::join!(send(), others);
    late.refused(409, "in_progress");
    second.expect(201);
    assert_eq!(hunts(&api).await, 1);
}
