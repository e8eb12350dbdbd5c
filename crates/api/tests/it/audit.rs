//! The audit log: what it keeps, what it never keeps, and how a change to it is found.

use muster_api::audit::verify;
use muster_catalog::{Priority, args, statements};
use serde_json::{Value, json};

use crate::kit::{Api, PASSWORD};

statements! {
    FORGE = "UPDATE audit SET principal = 'mallory' WHERE seq = 3 AND principal <> 'muster'";
    CUT = "DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)";
    REMOVE = "DELETE FROM audit WHERE seq = 2 AND principal <> 'muster'";
}

#[tokio::test]
async fn changes_looks_and_refusals_are_kept_without_secrets() {
    let api = Api::start().await;
    let ana = api.user("ana", json!([{"role": "viewer"}])).await;
    api.get(&ana, "/v1/users").await.refused(403, "forbidden");
    api.get(&api.root, "/v1/users/ana").await.expect(200);

    let denied = api.audited("principal=ana&outcome=denied").await;
    assert_eq!(denied[0]["operation"], "users.list");
    assert_eq!(denied[0]["address"], "192.0.2.7");
    let look = api.audited("operation=users.get").await;
    assert_eq!(look[0]["details"]["request"], "GET /v1/users/ana");
    let made = api.audited("operation=users.create").await;
    assert_eq!(made[0]["subject"], "user/ana");
    let everything = Value::from(api.audited("").await).to_string();
    for secret in [PASSWORD, &ana, &ana[4..]] {
        assert!(!everything.contains(secret));
    }
}

#[tokio::test]
async fn a_record_that_was_edited_or_removed_is_named() {
    for (forgery, seq) in [(&FORGE, 3), (&REMOVE, 2), (&CUT, 0)] {
        let api = Api::start().await;
        api.user("ana", json!([])).await;
        let whole = verify(&api.catalog).await.unwrap().unwrap();
        assert!(whole.records >= 3, "{whole:?}");
        api.catalog.execute(Priority::Api, forgery, args![]).await.unwrap();
        let broken = verify(&api.catalog).await.unwrap().unwrap_err();
        if seq > 0 {
            assert_eq!(broken.seq, seq);
        }
        let told = api.get(&api.root, "/v1/audit/verify").await.expect(200);
        assert_eq!(told["intact"], false);
    }
}

#[tokio::test]
async fn of_a_long_address_the_beginning_is_kept() {
    let api = Api::start().await;
    let path = format!("/v1/users?limit=1&after={}", "x".repeat(5_000));
    api.get(&api.root, &path).await.expect(200);
    let looked = api.audited("operation=users.list").await;
    let request = looked[0]["details"]["request"].as_str().unwrap();
    assert!(request.starts_with("GET /v1/users?limit=1&after=xx"), "{request}");
    assert!(request.len() < 1_100 && request.ends_with('…'), "{} bytes", request.len());
}
