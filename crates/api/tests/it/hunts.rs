//! Asking: dry runs, hunts, approvals, and what people do to a hunt.

use serde_json::{Value, json};

use crate::kit::Api;

#[tokio::test]
async fn a_dry_run_counts_and_creates_nothing() {
    let api = Api::start().await;
    api.endpoint("web-1", true, "web").await;
    api.endpoint("web-2", false, "web").await;
    api.endpoint("db-1", true, "").await;
    let asked = json!({
        "artifact": "linux.processes", "scope": {"labels": ["web"]}, "dry_run": true,
    });
    let counts = api.post(&api.root, "/v1/hunts", asked).await.expect(200);
    assert_eq!(counts, json!({"match": 2, "online": 1, "offline": 1}));
    let listed = api.get(&api.root, "/v1/hunts").await.expect(200);
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn an_artifact_reaches_the_platforms_it_is_written_for() {
    let api = Api::start().await;
    api.endpoint("web-1", true, "web").await;
    let ask = async |artifact: &str, condition: Value| {
        let scope = json!({"condition": condition});
        let asked = json!({"artifact": artifact, "scope": scope, "dry_run": true});
        api.post(&api.root, "/v1/hunts", asked).await.expect(200)["match"].clone()
    };
    assert_eq!(ask("linux.processes", Value::Null).await, 1);
    assert_eq!(ask("windows.processes", Value::Null).await, 0);
    let either = json!("name = 'web-1' OR name = 'web-2'");
    assert_eq!(ask("windows.processes", either.clone()).await, 0);
    let asked = json!({"artifact": "linux.processes", "scope": {"condition": either}});
    let made = api.post(&api.root, "/v1/hunts", asked).await.expect(201);
    let hunt = api.get(&api.root, &format!("/v1/hunts/{}", made["no"])).await.expect(200);
    let condition = hunt["hunt"]["scope"]["condition"].as_str().unwrap();
    assert_eq!(condition, "(name = 'web-1' OR name = 'web-2') AND platform IN ('linux')");
    // Balanced only together with what would be added to it.
    let open = json!({"condition": "online) OR (online"});
    let asked = json!({"artifact": "linux.processes", "scope": open});
    api.post(&api.root, "/v1/hunts", asked).await.refused(422, "invalid");
}

#[tokio::test]
async fn a_hunt_is_asked_changed_and_found_again() {
    let api = Api::start().await;
    api.endpoint("web-1", true, "").await;
    let ana = api.user("ana", json!([{"role": "analyst"}])).await;
    let asked = json!({"query": "SELECT 1 AS planted", "title": "one", "reason": "to see"});
    let made = api.post(&ana, "/v1/hunts", asked).await.expect(201);
    assert_eq!(made["state"], "running");
    let path = format!("/v1/hunts/{}", made["no"]);
    let detail = api.get(&ana, &path).await.expect(200);
    assert_eq!(detail["hunt"]["query"], "SELECT 1 AS planted");
    assert_eq!(detail["coverage"]["waiting"], 1);
    assert_eq!(detail["coverage"]["sentence"], "0 of 1 endpoint answered; 1 waiting.");
    let outcomes = api.get(&ana, &format!("{path}/outcomes?outcome=waiting")).await.expect(200);
    assert_eq!(outcomes["items"][0]["name"], "web-1");

    let bob = api.user("bob", json!([{"role": "analyst", "labels": []}])).await;
    api.post(&bob, &format!("{path}/pause"), json!({"reason": "slow"})).await.expect(204);
    let detail = api.get(&ana, &path).await.expect(200);
    assert_eq!(detail["hunt"]["pause_reason"], "paused by bob: slow");
    api.post(&ana, &format!("{path}/pause"), Value::Null).await.refused(409, "conflict");
    api.post(&ana, &format!("{path}/resume"), Value::Null).await.expect(204);
    let longer = json!({"expires_in_seconds": 30 * 24 * 3600});
    api.post(&ana, &format!("{path}/extend"), longer).await.expect(204);
    api.post(&ana, &format!("{path}/stop"), Value::Null).await.expect(204);
    api.post(&ana, &format!("{path}/stop"), Value::Null).await.refused(409, "conflict");

    let found = api.get(&ana, "/v1/history?search=PLANTED").await.expect(200);
    assert_eq!(found["items"][0]["no"], made["no"]);
    assert_eq!(api.get(&bob, "/v1/history?search=planted").await.expect(200)["items"], json!([]));
    let all = api.get(&bob, "/v1/history?search=planted&all=true").await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get(&ana, "/v1/history?search=%25").await.expect(200)["items"], json!([]));

    api.delete(&api.root, &path).await.expect(204);
    api.get(&ana, &path).await.refused(404, "not_found");
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let api = Api::start().await;
    let ask =
        async |body: Value| api.post(&api.root, "/v1/hunts", body).await.refused(422, "invalid");
    ask(json!({})).await;
    ask(json!({"artifact": "linux.processes", "query": "SELECT 1"})).await;
    ask(json!({"artifact": "no.such"})).await;
    let wrong = json!({"query": "SELECT 1", "limits": {"rate_per_second": 0}});
    assert!(ask(wrong).await.contains("rate_per_second must be from 1"));
    let wrong = json!({"query": "SELECT 1", "scope": {"condition": "platfrom = 'linux'"}});
    ask(wrong).await;
    api.endpoint("web-1", true, "web").await;
    let wrong = json!({"query": "SELECT 1", "scope": {"labels": ["wep"]}});
    assert!(ask(wrong).await.contains("did you mean \"web\"?"));
}

#[tokio::test]
async fn a_large_hunt_waits_for_a_second_person() {
    let api = Api::with(|with| with.options.approvals.hunt_above_endpoints = Some(1)).await;
    api.endpoint("web-1", true, "").await;
    api.endpoint("web-2", true, "").await;
    let ana = api.user("ana", json!([{"role": "responder"}])).await;
    let bob = api.user("bob", json!([{"role": "responder"}])).await;
    let cat = api.user("cat", json!([{"role": "responder", "labels": ["dev"]}])).await;
    let asked = json!({"query": "SELECT 1", "reason": "wide"});
    let made = api.post(&ana, "/v1/hunts", asked.clone()).await.expect(201);
    assert_eq!(made["state"], "awaiting_approval");
    let approve = format!("/v1/approvals/{}/approve", made["approval"]);
    api.post(&ana, &approve, Value::Null).await.refused(403, "forbidden");
    api.post(&cat, &approve, Value::Null).await.refused(403, "forbidden");
    let waiting = api.get(&bob, "/v1/approvals").await.expect(200);
    assert_eq!(waiting["items"][0]["subject"], format!("hunt/{}", made["no"]));
    assert_eq!(api.get(&cat, "/v1/approvals").await.expect(200)["items"], json!([]));
    api.post(&bob, &approve, json!({"reason": "fine"})).await.expect(204);
    api.post(&bob, &approve, Value::Null).await.refused(409, "conflict");
    let hunt = api.get(&ana, &format!("/v1/hunts/{}", made["no"])).await.expect(200);
    assert_eq!(hunt["hunt"]["state"], "running");
    assert_eq!(hunt["hunt"]["approved_by"], "bob");

    let second = api.post(&ana, "/v1/hunts", asked.clone()).await.expect(201);
    let path = format!("/v1/hunts/{}", second["no"]);
    api.post(&bob, &format!("{path}/approve"), Value::Null).await.expect(204);
    let third = api.post(&ana, "/v1/hunts", asked).await.expect(201);
    let deny = format!("/v1/approvals/{}/deny", third["approval"]);
    api.post(&bob, &deny, json!({"reason": "no"})).await.expect(204);
    let hunt = api.get(&ana, &format!("/v1/hunts/{}", third["no"])).await.expect(200);
    assert_eq!(hunt["hunt"]["state"], "stopped");
    // Below the number nobody is asked.
    let small = json!({"query": "SELECT 1", "scope": {"endpoints": [1]}});
    assert_eq!(api.post(&ana, "/v1/hunts", small).await.expect(201)["state"], "running");
}

#[tokio::test]
async fn an_artifact_is_stored_run_and_its_faults_have_a_line() {
    let api = Api::start().await;
    api.endpoint("web-1", true, "").await;
    let bad = "name: own.thing\ntitle: x\ncolumns: [\n";
    let answer = api.post(&api.root, "/v1/artifacts", json!({"yaml": bad})).await;
    let body = answer.expect(422);
    assert_eq!(body["code"], "invalid_artifact");
    assert!(body["faults"][0]["line"].as_u64().unwrap() >= 3, "{body}");
    let good = "name: own.thing\ntitle: A thing\ncolumns:\n  - {name: a, type: int}\n\
                sources:\n  native:\n    query: SELECT 1 AS a\n";
    let stored = api.post(&api.root, "/v1/artifacts", json!({"yaml": good})).await.expect(201);
    assert_eq!(stored["table"], "own_thing");
    let listed = api.get(&api.root, "/v1/artifacts?limit=1000").await.expect(200).to_string();
    assert!(listed.contains("own.thing") && listed.contains("linux.processes"));
    let names = async |query: &str| {
        let page = api.get(&api.root, &format!("/v1/artifacts?{query}")).await.expect(200);
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("search=A+THING").await, ["own.thing"]);
    assert_eq!(names("platform=windows&search=bitlocker").await, ["windows.system.bitlocker"]);
    assert!(names("platform=linux&limit=1000").await.contains(&"own.thing".to_owned()));
    assert_eq!(names("platform=linux&search=bitlocker").await, [""; 0]);
    let shown = api.get(&api.root, "/v1/artifacts/windows.system.bitlocker").await.expect(200);
    assert_eq!(shown["platforms"], json!(["windows"]));
    assert!(shown["yaml"].as_str().unwrap().contains("FROM bitlocker_info"), "{shown}");
    let asked = json!({"artifact": "own.thing", "endpoints": [1]});
    let made = api.post(&api.root, "/v1/collections", asked).await.expect(201);
    assert_eq!(made["match"], 1);
    api.delete(&api.root, "/v1/artifacts/own.thing").await.expect(204);
    api.get(&api.root, "/v1/artifacts/own.thing").await.refused(404, "not_found");
    api.delete(&api.root, "/v1/artifacts/linux.processes").await.refused(409, "conflict");
}
