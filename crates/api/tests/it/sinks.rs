//! `/sinks`: who may, what is shown, what is never shown.

use serde_json::{Value, json};

use crate::kit::Api;

const SECRET: &str = "a-very-secret-token";

fn splunk(name: &str) -> Value {
    json!({
        "name": name,
        "destination": {"kind": "splunk", "url": "https://splunk.example.org:8088", "index": "ir"},
        "filter": {"tables": ["linux.*"], "labels": ["servers"]},
        "batch": {"rows": 50},
        "secret": SECRET,
    })
}

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let api = Api::start().await;
    let made = api.post(&api.root, "/v1/sinks", splunk("siem")).await.expect(201);
    assert_eq!((&made["state"], &made["has_secret"]), (&json!("active"), &json!(true)));
    assert_eq!(made["batch"], json!({"rows": 50, "bytes": 1 << 20, "timeout_seconds": 30}));
    assert_eq!(made["destination"]["sourcetype"], "_json");
    let answers = [
        made,
        api.get(&api.root, "/v1/sinks").await.expect(200),
        api.get(&api.root, "/v1/sinks/siem").await.expect(200),
        api.get(&api.root, "/v1/sinks/siem/refused").await.expect(200),
        api.get(&api.root, "/v1/audit").await.expect(200),
    ];
    for answer in answers {
        assert!(!answer.to_string().contains(SECRET), "{answer}");
    }
    let records = api.audited("operation=sinks.create&outcome=ok").await;
    assert_eq!(records[0]["subject"], "sink/siem");
    assert_eq!(records[0]["details"]["destination"]["kind"], "splunk");
    api.post(&api.root, "/v1/sinks", splunk("siem")).await.refused(409, "conflict");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_place() {
    let api = Api::start().await;
    let refused = async |change: fn(&mut Value), at: &str| {
        let mut body = splunk("siem");
        change(&mut body);
        let answer = api.post(&api.root, "/v1/sinks", body).await.expect(422);
        assert_eq!(answer["faults"][0]["at"], at, "{answer}");
    };
    refused(|b| b["name"] = "a/b".into(), "/name").await;
    refused(|b| b["secret"] = Value::Null, "/secret").await;
    refused(|b| b["batch"]["rows"] = 0.into(), "/batch").await;
    refused(|b| b["destination"]["url"] = "https://127.0.0.1".into(), "/destination/url").await;
    refused(|b| b["destination"]["ca_pem"] = "x".into(), "/destination/ca_pem").await;
    let mut body = splunk("siem");
    body["destination"]["indx"] = "x".into();
    api.post(&api.root, "/v1/sinks", body).await.refused(400, "malformed");
}

#[tokio::test]
async fn an_administrator_of_some_endpoints_does_not_see_sinks() {
    let api = Api::start().await;
    api.endpoint("one", true, "servers").await;
    let roles = json!([{"role": "administrator", "labels": ["servers"]}]);
    let some = api.user("some", roles).await;
    api.get(&some, "/v1/sinks").await.refused(403, "forbidden");
    api.post(&some, "/v1/sinks", splunk("siem")).await.refused(403, "forbidden");
}

#[tokio::test]
async fn a_sink_is_paused_resumed_tested_and_removed() {
    let api = Api::start().await;
    let file = json!({"name": "f", "destination": {"kind": "file", "file": "f.ndjson"}});
    api.post(&api.root, "/v1/sinks", file).await.expect(201);
    let paused = api.post(&api.root, "/v1/sinks/f/pause", Value::Null).await.expect(200);
    assert_eq!(paused["state"], "paused");
    let resumed = api.post(&api.root, "/v1/sinks/f/resume", Value::Null).await.expect(200);
    assert_eq!(resumed["state"], "active");
    let test = api.post(&api.root, "/v1/sinks/f/test", Value::Null).await.expect(200);
    assert_eq!(test, json!({"taken": true}));
    api.delete(&api.root, "/v1/sinks/f").await.expect(204);
    api.delete(&api.root, "/v1/sinks/f").await.refused(404, "not_found");
    api.post(&api.root, "/v1/sinks/f/test", Value::Null).await.refused(404, "not_found");
}
