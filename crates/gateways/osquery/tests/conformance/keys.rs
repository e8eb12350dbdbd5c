//! Node keys: in the header or at the end of the body, and when they are refused (sections 1, 3).

use std::time::Duration;

use muster_endpoints::delete_endpoint;
use muster_endpoints::node_key::{KeyRing, NodeKey};
use muster_types::{AgentNo, EndpointNo, OrgId};
use serde_json::{Value, json};

use crate::client::Means;
use crate::rig::{NOW, Rig, Setup};

const READ: &str = "/api/v1/osquery/distributed/read";

fn key_for(agent: u32, age: Duration) -> NodeKey {
    let issued_at = u32::try_from(NOW.minus(age).seconds()).unwrap();
    NodeKey { org: OrgId::DEFAULT, agent: AgentNo(agent), issued_at, with_certificate: false }
}

#[tokio::test]
async fn key_is_taken_from_the_body() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    assert_eq!(rig.read(&key).await.means(), Means::Success);
    rig.stop().await;
}

#[tokio::test]
async fn key_is_taken_from_the_header() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let header = format!("NodeKey {key}");
    for body in [json!({"node_key": key}), json!({})] {
        let reply = rig.far.post(READ, body.to_string(), &[("Authorization", &header)]).await;
        assert_eq!(reply.means(), Means::Success, "{body}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn key_of_a_proxy_in_the_header_does_not_hide_the_agents_own() {
    let rig = Rig::start().await;
    let body = json!({"node_key": rig.enrol("host-1", "a").await}).to_string();
    let reply = rig.far.post(READ, body, &[("Authorization", "Basic dXNlcjpwYXNz")]).await;
    assert_eq!(reply.means(), Means::Success);
    rig.stop().await;
}

#[tokio::test]
async fn key_of_another_server_makes_the_agent_enrol_by_itself() {
    let rig = Rig::start().await;
    let fleet = "6W9x0yTjGZ0Jz4q8mNbV2cL5kR7tYh1U";
    let other = key_for(1, Duration::ZERO).sign(&KeyRing::fixed([8; 32]));
    for key in [fleet, &other, "x"] {
        for path in ["config", "log", "distributed/read", "distributed/write"] {
            let body = json!({"data": [], "log_type": "result", "queries": {}, "node_key": key});
            let reply = rig.far.post_json(&format!("/api/osquery/{path}"), &body).await;
            assert_eq!((reply.status, reply.means()), (401, Means::EnrolAgain), "{path}");
            assert_eq!(reply.json()["node_invalid"], Value::Bool(true), "a boolean");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn key_that_is_missing_is_no_reason_to_enrol() {
    let rig = Rig::start().await;
    for body in ["{}", r#"{"node_key":""}"#, "not json", ""] {
        let reply = rig.far.post(READ, body, &[]).await;
        assert_eq!(reply.means(), Means::KeepAndRetry, "{body}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn key_of_an_unknown_agent_has_a_minute() {
    let rig = Rig::start().await;
    let young = key_for(500, Duration::from_secs(59));
    let reply = rig.read(&rig.keys.issue(&young)).await;
    assert_eq!(reply.means(), Means::Success, "another instance may have enrolled it just now");
    let old = key_for(500, Duration::from_secs(61));
    assert_eq!(rig.read(&rig.keys.issue(&old)).await.means(), Means::EnrolAgain);
    rig.stop().await;
}

#[tokio::test]
async fn key_of_a_deleted_endpoint_makes_it_enrol_as_another() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    let gone = delete_endpoint(&rig.store.catalog, OrgId::DEFAULT, EndpointNo(1), NOW);
    assert!(gone.await.unwrap());
    rig.directory.refresh().await.unwrap();
    assert_eq!(rig.read(&key).await.means(), Means::EnrolAgain);
    let anew = rig.enrol("host-1", "a").await;
    assert_eq!(rig.read(&anew).await.means(), Means::Success);
    rig.stop().await;
}

#[tokio::test]
async fn key_is_never_called_invalid_while_the_directory_is_not_fresh() {
    let setup = Setup { fresh_within: Duration::ZERO, ..Setup::default() };
    let rig = Rig::with(setup).await;
    let good = rig.enrol("host-1", "a").await;
    let unknown = rig.keys.issue(&key_for(500, Duration::from_secs(3600)));
    for key in [unknown.as_str(), "foreign"] {
        let reply = rig.read(key).await;
        assert_eq!((reply.status, reply.means()), (503, Means::KeepAndRetry), "{key}");
    }
    assert_eq!(rig.read(&good).await.means(), Means::Success, "good ones work on");
    rig.stop().await;
}
