//! Schedules, and the configuration of osquery agents.

use http::Method;
use muster_endpoints::{AgentReport, Enrol, enrol};
use muster_types::{AgentKind, Clock, OrgId};
use serde_json::{Value, json};

use crate::kit::Api;

async fn osquery_agent(api: &Api) -> u32 {
    let new = Enrol {
        org: OrgId::DEFAULT,
        kind: AgentKind::Osquery,
        external_id: "host".into(),
        public_key: None,
        machine: None,
        report: AgentReport {
            hostname: "host".into(),
            platform: "linux".into(),
            ..AgentReport::default()
        },
        secret: None,
    };
    let enrolled = enrol(&api.catalog, &new, api.clock.now()).await.unwrap();
    api.directory.refresh().await.unwrap();
    enrolled.agent.0
}

async fn document(api: &Api, agent: u32) -> Value {
    api.get(&api.root, &format!("/v1/osquery/document/{agent}")).await.expect(200)
}

#[tokio::test]
async fn a_schedule_lives_from_its_making_to_its_end() {
    let api = Api::start().await;
    let agent = osquery_agent(&api).await;
    let new = json!({
        "name": "usb", "pack": "it", "query": "SELECT vendor FROM usb_devices", "interval_s": 300,
        "mode": "added_only", "platforms": "macos, linux",
    });
    let made = api.post(&api.root, "/v1/schedules", new.clone()).await.expect(201);
    assert_eq!(made["name"], "pack/it/usb");
    assert_eq!(made["table"], "schedule_it_usb");
    assert_eq!(made["platforms"], "darwin,linux");
    api.post(&api.root, "/v1/schedules", new).await.refused(409, "conflict");
    let pack = document(&api, agent).await["packs"]["it"]["queries"]["usb"].clone();
    assert_eq!(pack["interval"], 300);
    assert_eq!(pack["removed"], false);

    // Its artifact is there for SQL and for people, and stays as long as it is used.
    let artifact = api.get(&api.root, "/v1/artifacts/schedule.it.usb").await.expect(200);
    assert_eq!(artifact["agent_kinds"], json!(["osquery"]));
    api.delete(&api.root, "/v1/artifacts/schedule.it.usb").await.refused(409, "conflict");

    let path = format!("/v1/schedules/{}", made["no"]);
    let change = json!({"interval_s": 60, "query": "SELECT model FROM usb_devices"});
    let changed = api.call(&api.root, Method::PATCH, &path, change).await.expect(200);
    assert_eq!((&changed["interval_s"], &changed["mode"]), (&json!(60), &json!("added_only")));
    assert_eq!(api.get(&api.root, &path).await.expect(200), changed);
    let off = json!({"enabled": false});
    api.call(&api.root, Method::PATCH, &path, off).await.expect(200);
    assert!(document(&api, agent).await.get("packs").is_none());

    api.delete(&api.root, &path).await.expect(204);
    api.get(&api.root, &path).await.refused(404, "not_found");
    api.get(&api.root, "/v1/artifacts/schedule.it.usb").await.refused(404, "not_found");
}

#[tokio::test]
async fn slips_of_the_pen_are_named() {
    let api = Api::start().await;
    let refused = |body: Value| {
        let api = &api;
        async move { api.post(&api.root, "/v1/schedules", body).await.refused(422, "invalid") }
    };
    assert!(refused(json!({"name": "x"})).await.contains("artifact"));
    assert!(refused(json!({"query": "SELECT 1"})).await.contains("name"));
    let both = json!({"name": "x", "query": "SELECT 1", "artifact": "linux.processes"});
    assert!(refused(both).await.contains("not both"));
    let mode = json!({"name": "x", "query": "SELECT 1", "mode": "diff"});
    assert!(refused(mode).await.contains("added_only"));
    let label = json!({"name": "x", "query": "SELECT 1", "labels_out": ["no-such"]});
    assert!(refused(label).await.contains("no-such"));
    let made = json!({"name": "x", "query": "SELECT 1"});
    let made = api.post(&api.root, "/v1/schedules", made).await.expect(201);
    let path = format!("/v1/schedules/{}", made["no"]);
    let renamed = api.call(&api.root, Method::PATCH, &path, json!({"name": "y"})).await;
    assert!(renamed.refused(422, "invalid").contains("stay"));
}

#[tokio::test]
async fn parts_of_the_configuration_are_laid_over_one_another() {
    let api = Api::start().await;
    let agent = osquery_agent(&api).await;
    let put = |name: &str, body: Value| {
        let (api, path) = (&api, format!("/v1/osquery/config/{name}"));
        async move { api.call(&api.root, Method::PUT, &path, body).await }
    };
    put("a", json!({"config": {"options": {"x": 1, "y": 1}}})).await.expect(204);
    put("b", json!({"config": {"options": {"x": 2}}, "precedence": 5})).await.expect(204);
    let options = document(&api, agent).await["options"].clone();
    assert_eq!(options, json!({"pack_delimiter": "/", "x": 2, "y": 1}));
    put("c", json!({"config": {"schedule": {}}})).await.refused(422, "invalid");
    put("c", json!({"config": {}, "label": "no-such"})).await.refused(422, "invalid");
    let listed = api.get(&api.root, "/v1/osquery/config?limit=1").await.expect(200);
    assert_eq!(
        (listed["items"][0]["name"].as_str(), listed["next"].as_str()),
        (Some("a"), Some("a"))
    );
    api.delete(&api.root, "/v1/osquery/config/b").await.expect(204);
    assert_eq!(document(&api, agent).await["options"]["x"], 1);
    api.delete(&api.root, "/v1/osquery/config/b").await.refused(404, "not_found");
}

#[tokio::test]
async fn yara_rules_are_stored_under_names_that_fit_a_url() {
    let api = Api::start().await;
    let put = |name: &str, text: String| {
        let (api, path) = (&api, format!("/v1/osquery/yara/{name}"));
        async move { api.call(&api.root, Method::PUT, &path, json!({ "text": text })).await }
    };
    let rule = "rule a { condition: true }".to_owned();
    put("b.yar", rule.clone()).await.expect(204);
    put("a.yar", rule.clone()).await.expect(204);
    put("a.yar", format!("{rule}\n")).await.expect(204);
    put(".hidden", rule.clone()).await.refused(422, "invalid");
    put("a%2Fb", rule).await.refused(422, "invalid");
    put("c.yar", "x".repeat(512 * 1024 + 1)).await.refused(422, "invalid");
    let listed = api.get(&api.root, "/v1/osquery/yara?limit=1").await.expect(200);
    assert_eq!(
        (listed["items"][0]["name"].as_str(), listed["next"].as_str()),
        (Some("a.yar"), Some("a.yar"))
    );
    assert_eq!(listed["items"][0].get("text"), None, "lists are short");
    let one = api.get(&api.root, "/v1/osquery/yara/a.yar").await.expect(200);
    assert_eq!(
        (one["text"].as_str(), one["byte_count"].as_u64()),
        (Some("rule a { condition: true }\n"), Some(27))
    );
    api.delete(&api.root, "/v1/osquery/yara/a.yar").await.expect(204);
    api.delete(&api.root, "/v1/osquery/yara/a.yar").await.refused(404, "not_found");
}

#[tokio::test]
async fn documents_are_of_osquery_agents_in_scope() {
    let api = Api::start().await;
    let agent = osquery_agent(&api).await;
    let native = api.endpoint("native", true, "web").await;
    let path = format!("/v1/osquery/document/{native}");
    api.get(&api.root, &path).await.refused(404, "not_found");
    let scoped = json!([{"role": "viewer", "labels": ["web"]}]);
    let token = api.user("eve", scoped).await;
    let path = format!("/v1/osquery/document/{agent}");
    api.get(&token, &path).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_secret_that_agents_have_is_adopted_once() {
    let api = Api::start().await;
    let body = json!({"name": "fleet", "labels": ["team:a"], "secret": "from-another-server"});
    let made = api.post(&api.root, "/v1/enrol-secrets", body.clone()).await.expect(201);
    assert_eq!(made["secret"], "from-another-server");
    api.post(&api.root, "/v1/enrol-secrets", body).await.refused(409, "conflict");
    let short = json!({"name": "short", "secret": "x"});
    api.post(&api.root, "/v1/enrol-secrets", short).await.refused(422, "invalid");
}
