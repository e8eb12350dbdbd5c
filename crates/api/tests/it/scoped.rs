//! A caller scoped to one label sees nothing outside it, in no list, count or refusal.

use muster_catalog::Priority;
use muster_types::{HuntNo, OrgId};
use serde_json::{Value, json};

use crate::kit::Api;

#[tokio::test]
async fn nothing_outside_the_scope_appears_anywhere() {
    let api = Api::start().await;
    let mine = api.endpoint("dev-laptop", true, "dev").await;
    let secret = api.endpoint("board-laptop", true, "board").await;
    let everything = json!({"query": "SELECT 1", "scope": {"labels": ["board", "dev"]}});
    let hunt = api.post(&api.root, "/v1/hunts", everything).await.expect(201)["no"].clone();
    let dev = api.user("dee", json!([{"role": "analyst", "labels": ["dev"]}])).await;

    let lists = [
        "/v1/endpoints",
        "/v1/endpoints?search=laptop",
        "/v1/endpoints?online=true",
        "/v1/agents",
        "/v1/labels",
        "/v1/hunts",
        "/v1/history?all=true",
        &format!("/v1/hunts/{hunt}"),
        &format!("/v1/hunts/{hunt}/coverage"),
        &format!("/v1/hunts/{hunt}/outcomes"),
    ];
    for path in lists {
        let seen = api.get(&dev, path).await.expect(200).to_string();
        assert!(!seen.contains("board"), "{path}: {seen}");
    }
    let endpoints = api.get(&dev, "/v1/endpoints").await.expect(200);
    assert_eq!(endpoints["items"].as_array().unwrap().len(), 1);
    let coverage = api.get(&dev, &format!("/v1/hunts/{hunt}/coverage")).await.expect(200);
    assert_eq!((&coverage["total"], &coverage["waiting"]), (&json!(1), &json!(1)));
    assert!(coverage.get("row_count").is_none());

    // What exists outside is refused in the same words as what does not exist.
    let same = [
        ("/v1/endpoints/{}".to_owned(), secret.to_string(), "999".to_owned()),
        ("/v1/labels/{}/endpoints".to_owned(), "board".to_owned(), "beard".to_owned()),
        ("/v1/endpoints?label={}".to_owned(), "board".to_owned(), "beard".to_owned()),
    ];
    for (path, there, absent) in same {
        let there_detail = api.get(&dev, &path.replace("{}", &there)).await.json();
        let absent_detail = api.get(&dev, &path.replace("{}", &absent)).await.json();
        assert_eq!(there_detail["status"], absent_detail["status"]);
        let text = there_detail["detail"].as_str().unwrap().replace(&there, &absent);
        assert_eq!(text, absent_detail["detail"].as_str().unwrap());
    }

    let ask = async |scope: Value| {
        let body = json!({"query": "SELECT 1", "scope": scope, "dry_run": true});
        api.post(&dev, "/v1/hunts", body).await
    };
    assert_eq!(ask(json!({})).await.expect(200)["match"], 1);
    assert_eq!(ask(json!({"condition": "name LIKE '%laptop'"})).await.expect(200)["match"], 1);
    assert_eq!(ask(json!({"endpoints": [mine]})).await.expect(200)["match"], 1);
    ask(json!({"endpoints": [secret]})).await.refused(422, "invalid");
    ask(json!({"labels": ["board"]})).await.refused(422, "invalid");

    // Others' hunts may be looked at, not touched; what is whole is for those who see the whole.
    let stop = format!("/v1/hunts/{hunt}/stop");
    api.post(&dev, &stop, Value::Null).await.refused(403, "forbidden");
    for path in ["/v1/storage", "/v1/instances", "/v1/users", "/v1/audit"] {
        api.get(&dev, path).await.refused(403, "forbidden");
    }
    // A label that decides who sees what is not for responders to hand out.
    let eve = api.user("eve", json!([{"role": "responder"}])).await;
    let more = json!({"add": [secret]});
    api.post(&eve, "/v1/labels/dev/endpoints", more).await.refused(403, "forbidden");
    api.delete(&api.root, "/v1/labels/dev").await.refused(409, "conflict");
}

#[tokio::test]
async fn who_has_an_empty_scope_may_ask_nobody() {
    let api = Api::start().await;
    api.endpoint("web-1", true, "").await;
    api.endpoint("dev-1", true, "dev").await;
    let dee = api.user("dee", json!([{"role": "analyst", "labels": ["empty"]}])).await;
    let asked = json!({"query": "SELECT 1"});
    api.post(&dee, "/v1/queries", asked).await.refused(403, "forbidden");
    assert_eq!(api.get(&dee, "/v1/endpoints").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_removed_endpoint_is_gone_at_once() {
    let api = Api::start().await;
    let no = api.endpoint("dev-1", true, "dev").await;
    let other = api.endpoint("web-1", true, "").await;
    let dee = api.user("dee", json!([{"role": "administrator", "labels": ["dev"]}])).await;
    api.delete(&dee, &format!("/v1/endpoints/{other}")).await.refused(404, "not_found");
    api.delete(&dee, &format!("/v1/endpoints/{no}")).await.expect(204);
    api.get(&api.root, &format!("/v1/endpoints/{no}")).await.refused(404, "not_found");
    let removed = api.audited("operation=endpoints.delete&outcome=ok").await;
    assert_eq!(removed[0]["details"]["name"], "dev-1");
}

#[tokio::test]
async fn why_a_hunt_paused_itself_tells_no_counts_of_others() {
    let api = Api::start().await;
    api.endpoint("dev-1", true, "dev").await;
    let dee = api.user("dee", json!([{"role": "analyst", "labels": ["dev"]}])).await;
    let ask = json!({"query": "SELECT 1"});
    let mut hunts = Vec::new();
    for token in [&api.root, &dee] {
        let no = api.post(token, "/v1/hunts", ask.clone()).await.expect(201)["no"].clone();
        hunts.push(no.as_u64().unwrap());
    }
    let why = "total: 7654321 bytes came in altogether, more than 1048576";
    let mut tx = api.catalog.begin(Priority::Api).await.unwrap();
    for no in &hunts {
        muster_hunts::pause(&mut tx, OrgId::DEFAULT, HuntNo(*no), why).await.unwrap();
    }
    tx.commit().await.unwrap();
    // What another instance did is seen with the next change, or within a second.
    api.post(&api.root, "/v1/hunts", ask).await.expect(201);

    let reason = async |token: &str, no: u64| {
        let seen = api.get(token, &format!("/v1/hunts/{no}")).await.expect(200);
        assert_eq!(seen["hunt"]["state"], "paused");
        let listed = api.get(token, "/v1/hunts").await.expect(200);
        let listed = listed["items"].as_array().unwrap();
        let listed = listed.iter().find(|hunt| hunt["no"] == no).unwrap();
        assert_eq!(listed["pause_reason"], seen["hunt"]["pause_reason"]);
        seen["hunt"]["pause_reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&api.root, hunts[0]).await, why);
    assert_eq!(reason(&dee, hunts[1]).await, why, "her own");
    assert_eq!(reason(&dee, hunts[0]).await, "total: too many bytes came in altogether");

    let path = format!("/v1/hunts/{}", hunts[0]);
    api.post(&api.root, &format!("{path}/resume"), Value::Null).await.expect(204);
    let words = json!({"reason": "lunch: 12 people"});
    api.post(&api.root, &format!("{path}/pause"), words).await.expect(204);
    assert_eq!(reason(&dee, hunts[0]).await, "paused by local: lunch: 12 people");
}

#[tokio::test]
async fn policies_and_schedules_name_no_labels_of_others() {
    let api = Api::start().await;
    api.endpoint("dev-1", true, "dev").await;
    api.endpoint("board-1", true, "board").await;
    let policy = json!({"name": "p", "query": "SELECT 1", "labels": ["board", "dev"],
        "exclude_labels": ["board"]});
    let policy = api.post(&api.root, "/v1/policies", policy).await.expect(201);
    assert_eq!(policy["labels"], json!(["board", "dev"]));
    let schedule = json!({"name": "uptime", "query": "SELECT * FROM uptime",
        "labels_in": ["dev", "board"], "labels_out": ["board"]});
    let schedule = api.post(&api.root, "/v1/schedules", schedule).await.expect(201);
    let dee = api.user("dee", json!([{"role": "administrator", "labels": ["dev"]}])).await;
    let paths = [
        "/v1/policies".to_owned(),
        format!("/v1/policies/{}", policy["no"]),
        "/v1/schedules".to_owned(),
        format!("/v1/schedules/{}", schedule["no"]),
    ];
    for path in paths {
        let seen = api.get(&dee, &path).await.expect(200).to_string();
        assert!(seen.contains(r#"["dev"]"#) && !seen.contains("board"), "{path}: {seen}");
        let whole = api.get(&api.root, &path).await.expect(200).to_string();
        assert_eq!(whole.matches("\"board\"").count(), 2, "{path}: {whole}");
    }
}
