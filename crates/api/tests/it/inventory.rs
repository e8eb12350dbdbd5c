//! Policies, labels by rule, and what is known of one endpoint.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use http::Method;
use serde_json::{Value, json};

use crate::kit::Api;
use crate::sql::{ANSWERS, child_with};

#[tokio::test]
async fn policies_are_made_changed_and_deleted() {
    let api = Api::start().await;
    api.endpoint("one", false, "servers").await;
    let new = json!({
        "name": "Disk is encrypted",
        "query": "SELECT 1 FROM disk_encryption WHERE encrypted = 1;",
        "platforms": ["linux"],
        "labels": ["servers"],
    });
    let made = api.post(&api.root, "/v1/policies", new.clone()).await.expect(201);
    assert_eq!(made["no"], 1);
    assert_eq!(made["query"], "SELECT 1 FROM disk_encryption WHERE encrypted = 1");
    assert_eq!((&made["enabled"], &made["created_by"]), (&json!(true), &json!("local")));
    api.post(&api.root, "/v1/policies", new.clone()).await.refused(409, "conflict");

    let mut other = new.clone();
    other["query"] = "SELECT 2".into();
    other["enabled"] = false.into();
    let changed = api.call(&api.root, Method::PUT, "/v1/policies/1", other).await.expect(200);
    assert_eq!((&changed["query"], &changed["enabled"]), (&json!("SELECT 2"), &json!(false)));
    assert_eq!(api.get(&api.root, "/v1/policies/1").await.expect(200), changed);
    let listed = api.get(&api.root, "/v1/policies").await.expect(200);
    assert_eq!(listed["items"], json!([changed]));

    api.delete(&api.root, "/v1/policies/1").await.expect(204);
    api.get(&api.root, "/v1/policies/1").await.refused(404, "not_found");
    api.delete(&api.root, "/v1/policies/1").await.refused(404, "not_found");
    let again = api.post(&api.root, "/v1/policies", new).await.expect(201);
    assert_eq!(again["no"], 2, "numbers are not used again");
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_said() {
    let api = Api::start().await;
    for (body, at) in [
        (json!({"name": "", "query": "SELECT 1"}), "/name"),
        (json!({"name": "p", "query": " ; "}), "/query"),
        (json!({"name": "p", "query": "SELECT 1", "platforms": ["macos"]}), "/platforms/0"),
        (json!({"name": "p", "query": "SELECT 1", "labels": ["unheard"]}), "/labels/0"),
    ] {
        let answer = api.post(&api.root, "/v1/policies", body).await.expect(422);
        assert_eq!(answer["faults"][0]["at"], at, "{answer}");
    }
    let state = api.get(&api.root, "/v1/policies/7/endpoints?state=fial").await;
    state.refused(404, "not_found");
}

/// An API whose SQL answers that the first rule means these endpoints.
async fn answering(dir: &std::path::Path, endpoints: &[i64]) -> Api {
    let rules: ArrayRef = Arc::new(Int64Array::from(vec![0; endpoints.len()]));
    let endpoints: ArrayRef = Arc::new(Int64Array::from(endpoints.to_vec()));
    let batch = RecordBatch::try_from_iter([("rule", rules), ("endpoint", endpoints)]).unwrap();
    Api::with(child_with(ANSWERS, dir, &batch)).await
}

#[tokio::test]
async fn a_rule_is_tried_set_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let api = answering(dir.path(), &[1, 2, 77]).await;
    api.endpoint("one", false, "").await;
    api.endpoint("two", false, "old").await;
    api.endpoint("three", false, "old").await;
    let trial = json!({"query": "SELECT endpoint FROM software", "label": "old"});
    let preview = api.post(&api.root, "/v1/label-rules/preview", trial).await.expect(200);
    let expected = json!({
        "endpoint_count": 2,
        "examples": [{"no": 1, "name": "one"}, {"no": 2, "name": "two"}],
        "added": 1,
        "removed": 1,
    });
    assert_eq!(preview, expected);

    let path = "/v1/labels/old/rule";
    api.get(&api.root, path).await.refused(404, "not_found");
    let rule = json!({"query": "SELECT endpoint FROM software;"});
    let set = api.call(&api.root, Method::PUT, path, rule).await.expect(200);
    assert_eq!(
        (&set["query"], &set["owner"]),
        (&json!("SELECT endpoint FROM software"), &json!("local"))
    );
    assert_eq!(set.get("evaluated_at"), None, "nobody has asked it yet");
    let by_hand = api.post(&api.root, "/v1/labels/old/endpoints", json!({"add": [1]})).await;
    assert!(by_hand.refused(409, "conflict").contains("follows a rule"));
    let history = api.get(&api.root, "/v1/labels/old/rule/history").await.expect(200);
    assert_eq!(history["items"], json!([]));

    api.delete(&api.root, path).await.expect(204);
    api.delete(&api.root, path).await.refused(404, "not_found");
    let kept = api.get(&api.root, "/v1/labels/old/endpoints").await.expect(200);
    assert_eq!(kept["items"], json!([2, 3]));
    api.call(&api.root, Method::PUT, path, json!({"query": " "})).await.refused(422, "invalid");
}

#[tokio::test]
async fn a_label_that_roles_are_granted_on_takes_an_administrator() {
    let api = Api::start().await;
    api.endpoint("one", false, "board").await;
    let bob = api.user("bob", json!([{"role": "responder"}])).await;
    api.user("eve", json!([{"role": "viewer", "labels": ["board"]}])).await;
    let rule = json!({"query": "SELECT 1 AS endpoint"});
    let path = "/v1/labels/board/rule";
    let denied = api.call(&bob, Method::PUT, path, rule.clone()).await;
    denied.refused(403, "forbidden");
    api.call(&api.root, Method::PUT, path, rule).await.expect(200);
}

#[tokio::test]
async fn an_endpoint_is_asked_anew_by_those_who_may_ask_it() {
    let api = Api::start().await;
    let native = api.endpoint("native", true, "").await;
    let polling = api.osquery_endpoint("polling").await;
    let viewer = api.user("eve", json!([{"role": "viewer"}])).await;
    let path = |no: u32| format!("/v1/endpoints/{no}/refetch");
    api.post(&viewer, &path(polling), Value::Null).await.refused(403, "forbidden");
    api.post(&api.root, &path(polling), Value::Null).await.expect(202);
    api.post(&api.root, &path(native), Value::Null).await.refused(409, "conflict");
    api.post(&api.root, &path(999), Value::Null).await.refused(404, "not_found");
    let audited = api.audited("operation=endpoints.refetch&outcome=ok").await;
    assert_eq!(audited.len(), 1);
}
