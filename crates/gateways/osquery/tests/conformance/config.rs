//! Config (section 5) and YARA rules (section 9).

use serde_json::{Value, json};

use crate::client::{Means, Reply};
use crate::rig::Rig;

impl Rig {
    async fn config(&self, body: Value) -> Reply {
        self.far.post_json("/api/v1/osquery/config", &body).await
    }
}

#[tokio::test]
async fn config_is_the_document_itself() {
    let rig = Rig::start().await;
    *rig.given.schedule.lock() = r#""q":{"query":"SELECT 1","interval":60}"#.into();
    let key = rig.enrol("host-1", "a").await;
    let document = rig.config(json!({"node_key": key})).await.json();
    assert_eq!(document["schedule"]["q"]["interval"], 60);
    assert_eq!(document["for"], "host-1.example");
    assert!(document.get("error").is_none() && document.get("etag").is_none());
    rig.stop().await;
}

#[tokio::test]
async fn config_bytes_are_stable() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let first = rig.config(json!({"node_key": key})).await.body;
    assert_eq!(rig.config(json!({"node_key": key})).await.body, first);
    rig.stop().await;
}

#[tokio::test]
async fn config_with_an_empty_etag_is_full_and_has_one() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let document = rig.config(json!({"node_key": key, "etag": ""})).await.json();
    let etag = document["etag"].as_str().unwrap();
    assert!(!etag.is_empty() && etag != "ok");
    assert!(document["schedule"].is_object());
    rig.stop().await;
}

#[tokio::test]
async fn config_with_the_same_etag_is_ok_alone() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let etag = rig.config(json!({"node_key": key, "etag": ""})).await.json()["etag"].clone();
    let again = rig.config(json!({"node_key": key, "etag": etag})).await;
    assert_eq!(again.body, br#"{"etag":"ok"}"#);
    *rig.given.schedule.lock() = r#""q":{"query":"SELECT 1","interval":60}"#.into();
    let changed = rig.config(json!({"node_key": key, "etag": etag})).await.json();
    assert!(changed["schedule"]["q"].is_object() && changed["etag"] != etag);
    rig.stop().await;
}

#[tokio::test]
async fn config_for_an_agent_that_another_instance_enrolled_is_found() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let other = muster_endpoints::Directory::open(
        rig.store.catalog.clone(),
        muster_bus::local::LocalBus::new(8),
    );
    assert_eq!(other.await.unwrap().snapshot().agent_count(), 1);
    assert_eq!(rig.config(json!({"node_key": key})).await.means(), Means::Success);
    rig.stop().await;
}

#[tokio::test]
async fn config_is_gzip_only_for_agents_that_take_it() {
    let rig = Rig::start().await;
    let queries = (0..200).map(|n| format!(r#""q{n}":{{"query":"SELECT {n}","interval":60}}"#));
    *rig.given.schedule.lock() = queries.collect::<Vec<_>>().join(",");
    let body = json!({"node_key": rig.enrol("host-1", "a").await}).to_string();
    let path = "/api/v1/osquery/config";
    let plain = rig.far.post(path, &body, &[]).await;
    assert!(plain.json()["schedule"]["q199"].is_object());
    for _ in 0..2 {
        let packed = rig.far.post(path, &body, &[("Accept-Encoding", "gzip")]).await;
        assert!(packed.body.len() < plain.body.len() / 2);
        assert_eq!(packed.unpacked(), plain.body);
    }
    rig.stop().await;
}

#[tokio::test]
async fn yara_rules_are_text_and_what_is_missing_is_not_200() {
    let rig = Rig::start().await;
    let body = json!({"node_key": rig.enrol("host-1", "a").await});
    let good = rig.far.post_json("/api/v1/osquery/yara/good.yar", &body).await;
    assert_eq!((good.status, &good.body[..9]), (200, &b"rule good"[..]));
    assert_eq!(rig.far.post_json("/api/osquery/yara/none.yar", &body).await.status, 404);
    let foreign = json!({"node_key": "x"});
    assert_eq!(rig.far.post_json("/api/osquery/yara/good.yar", &foreign).await.status, 401);
    rig.stop().await;
}
