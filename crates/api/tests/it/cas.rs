//! One CA follows another, as operators drive it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::Api;

async fn cas(api: &Api, token: &str) -> Vec<Value> {
    let page = api.get(token, "/v1/cas").await.expect(200);
    page["items"].as_array().unwrap().clone()
}

fn untold(cas: &[Value]) -> Vec<u64> {
    cas.iter().map(|ca| ca["untold_agents"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_ca_signs_when_agents_know_it_and_the_first_can_go() {
    let api = Api::start().await;
    api.endpoint("linked", true, "").await;
    api.endpoint("away", false, "dev").await;
    api.osquery_endpoint("osquery").await;
    let dee = api.user("dee", json!([{"role": "viewer", "labels": ["dev"]}])).await;
    let first = cas(&api, &dee).await;
    assert_eq!((first.len(), &first[0]["no"], &first[0]["signs"]), (1, &json!(1), &json!(true)));
    assert!(!first[0].to_string().contains("PRIVATE"));

    assert_eq!(api.post(&api.root, "/v1/cas", Value::Null).await.expect(201)["no"], 2);
    let both = cas(&api, &api.root).await;
    assert_ne!(both[0]["fingerprint"], both[1]["fingerprint"]);
    assert_eq!((&both[0]["signs"], &both[1]["signs"]), (&json!(true), &json!(false)));
    assert_eq!(untold(&both), [0, 2], "nobody can have been told so soon");
    assert_eq!(untold(&cas(&api, &dee).await), [0, 1], "she sees one endpoint");

    let sign = "/v1/cas/2/sign";
    let refused = api.post(&api.root, sign, json!({})).await;
    assert!(String::from_utf8_lossy(&refused.bytes).contains("2 agents may not have been told"));
    refused.refused(409, "conflict");
    api.clock.advance(Duration::from_secs(241));
    assert_eq!(untold(&cas(&api, &api.root).await), [0, 1], "who is linked was told");
    api.endpoint("new", false, "").await;
    assert_eq!(untold(&cas(&api, &api.root).await), [0, 2], "who enrols is told when it links");
    let (agent, _) = api.enrolled("newer", muster_types::AgentKind::Native).await;
    api.clock.advance(Duration::from_secs(1));
    api.presence.connected(agent);
    assert_eq!(untold(&cas(&api, &api.root).await), [0, 2], "this one did");
    api.post(&api.root, sign, json!({})).await.refused(409, "conflict");
    api.post(&api.root, sign, json!({"leave_behind": true})).await.expect(204);
    let audited = api.audited("operation=cas.sign&outcome=ok").await;
    assert_eq!(audited[0]["details"]["untold_agents"], 2);
    let turned = cas(&api, &api.root).await;
    assert_eq!((&turned[0]["signs"], &turned[1]["signs"]), (&json!(false), &json!(true)));

    api.delete(&api.root, "/v1/cas/2").await.refused(409, "conflict");
    api.delete(&api.root, "/v1/cas/1").await.expect(204);
    api.delete(&api.root, "/v1/cas/1").await.refused(404, "not_found");
    api.post(&api.root, "/v1/cas/1/sign", json!({})).await.refused(404, "not_found");
    let left = cas(&api, &api.root).await;
    assert_eq!((left.len(), &left[0]["fingerprint"]), (1, &both[1]["fingerprint"]));
}
