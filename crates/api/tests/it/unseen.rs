//! What happens outside the scope of a caller changes no answer they get: every operation that a scoped
//! caller may use is asked before and after.

use std::collections::BTreeMap;

use http::Method;
use muster_api::authorise::{Audit, Needs};
use muster_catalog::{Priority, args, statements};
use muster_hunts::ShardProgress;
use muster_types::{AgentNo, Clock as _, EndpointNo, OrgId, Outcome};
use muster_uploads::NewUpload;
use serde_json::{Value, json};

use crate::coverage::{Called, walk};
use crate::kit::Api;

statements! {
    PROGRESS = "INSERT INTO hunt_shard (hunt_no, shard, progress, row_count, byte_count, change)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (hunt_no, shard) DO UPDATE
        SET progress = excluded.progress, row_count = excluded.row_count,
            byte_count = excluded.byte_count, change = excluded.change";
}

/// Operations whose answers are rows of the SQL child, which these tests do not have (the engine's own tests
/// walk its tables by a scoped asker), or streams without an end (followed in `sql`).
fn is_answered_elsewhere(called: &Called) -> bool {
    called.operation.audit == Audit::Stream || called.operation.id == "updates"
}

/// Paths with the numbers and names of things, by the operation that reads or changes one.
fn aim(called: &Called, things: &BTreeMap<&str, String>) -> String {
    let kind = called.path.trim_start_matches("/v1/").split('/').next().unwrap_or_default();
    match things.get(kind) {
        Some(thing) => called.path.replace("999999", thing).replace("nobody", thing),
        None => called.path.clone(),
    }
}

/// A machine with both agents, an upload, and rows in a hunt.
async fn busy(api: &Api, label: &str, hunt: &Value) -> BTreeMap<&'static str, String> {
    let native = api.endpoint(&format!("{label}-laptop"), true, label).await;
    let osquery = api.osquery_endpoint(&format!("{label}-server")).await;
    let path = format!("/v1/labels/{label}/endpoints");
    api.post(&api.root, &path, json!({"add": [osquery]})).await.expect(200);
    let snapshot = api.directory.snapshot();
    let agent: AgentNo = snapshot.endpoint(EndpointNo(native)).unwrap().agents[0];
    let upload = NewUpload {
        kind: "carve",
        external_id: format!("{label}-guid"),
        block_count: 1,
        block_size: 8,
        byte_count: 8,
    };
    let upload = api.uploads.begin(OrgId::DEFAULT, agent, &upload, api.clock.now()).await.unwrap();
    let upload = api.uploads.session(&upload).unwrap().upload.0;
    let mut progress = ShardProgress::default();
    progress.deliver(agent);
    progress.end(agent, Outcome::Rows);
    progress.row_count = 7;
    progress.byte_count = 700;
    let mut tx = api.catalog.begin(Priority::Intake).await.unwrap();
    let change = tx.bump("progress").await.unwrap();
    let no = hunt["no"].as_i64().unwrap();
    let values = args![no, agent.shard(), progress.encode(), 7_u64, 700_u64, change];
    tx.execute(&PROGRESS, values).await.unwrap();
    tx.commit().await.unwrap();
    BTreeMap::from([
        ("endpoints", native.to_string()),
        ("uploads", upload.to_string()),
        ("labels", label.to_owned()),
        ("hunts", no.to_string()),
    ])
}

/// Every answer to a look of this caller, by operation and path.
async fn looks(api: &Api, token: &str, things: &BTreeMap<&str, String>) -> BTreeMap<String, Value> {
    let mut answers = BTreeMap::new();
    for called in walk() {
        if called.method != Method::GET
            || is_answered_elsewhere(&called)
            || matches!(called.operation.needs, Needs::Everything(_))
        {
            continue;
        }
        let path = aim(&called, things);
        let answer = api.get(token, &path).await;
        let content = match serde_json::from_slice::<Value>(&answer.bytes) {
            // Each request has an id of its own.
            Ok(mut json) => {
                if let Some(object) = json.as_object_mut() {
                    object.remove("request_id");
                    object.remove("instance");
                }
                json
            }
            Err(_) => json!(String::from_utf8_lossy(&answer.bytes)),
        };
        let answer = json!([answer.status.as_u16(), content]);
        answers.insert(format!("{} {path}", called.operation.id), answer);
    }
    answers
}

#[tokio::test]
async fn what_happens_outside_the_scope_changes_no_answer() {
    let api = Api::start().await;
    let ask = json!({"query": "SELECT 1", "scope": {}});
    let hunt = api.post(&api.root, "/v1/hunts", ask.clone()).await.expect(201);
    let mine = busy(&api, "dev", &hunt).await;
    let policy = json!({"name": "p", "query": "SELECT 1"});
    api.post(&api.root, "/v1/policies", policy).await.expect(201);
    let schedule = json!({"name": "uptime", "query": "SELECT * FROM uptime"});
    api.post(&api.root, "/v1/schedules", schedule).await.expect(201);
    // The strongest there is, on one label.
    let dee = api.user("dee", json!([{"role": "administrator", "labels": ["dev"]}])).await;
    // What this instance has not seen of the hunt it reads with the next change.
    let refresh = json!({"query": "SELECT 2", "scope": {"labels": ["dev"]}});
    api.post(&api.root, "/v1/hunts", refresh).await.expect(201);

    let before = looks(&api, &dee, &mine).await;
    let good = before.values().filter(|answer| answer[0] == 200).count();
    assert!(good >= 15, "{good} of {} looks were answered", before.len());
    let theirs = busy(&api, "boardroom", &hunt).await;
    let more = json!({"query": "SELECT 3", "scope": {"labels": ["boardroom"]}});
    api.post(&dee, "/v1/hunts", more.clone()).await.refused(422, "invalid");
    let of_theirs = api.post(&api.root, "/v1/hunts", more).await.expect(201);
    let after = looks(&api, &dee, &mine).await;
    // That others ask questions is no secret; whom is.
    let hunts = ["hunts.list /v1/hunts", "history.list /v1/history"];
    for (what, answer) in &after {
        let text = answer.to_string();
        let at = text.find("boardroom").map(|at| &text[at.saturating_sub(200)..at + 20]);
        assert_eq!(at, None, "{what}");
        if !hunts.contains(&what.as_str()) {
            assert_eq!(answer, &before[what], "{what}");
        }
    }
    let whole = looks(&api, &api.root, &mine).await;
    let told_apart = after.iter().filter(|(what, answer)| whole[*what] != **answer).count();
    assert!(told_apart >= 6, "the test would see {told_apart} differences");

    // What is of others is answered as if it were not there, and nothing is changed by asking.
    let absent = BTreeMap::from([
        ("endpoints", "888888".to_owned()),
        ("uploads", "888888".to_owned()),
        ("labels", "nolabel".to_owned()),
    ]);
    for called in walk() {
        let id = called.operation.id;
        let kind = called.path.trim_start_matches("/v1/").split('/').next().unwrap_or_default();
        if is_answered_elsewhere(&called)
            || matches!(called.operation.needs, Needs::Everything(_))
            || !absent.contains_key(kind)
            || aim(&called, &theirs) == called.path
        {
            continue;
        }
        let body = if called.method == Method::GET { Value::Null } else { json!({}) };
        let there =
            api.call(&dee, called.method.clone(), &aim(&called, &theirs), body.clone()).await;
        let not = api.call(&dee, called.method.clone(), &aim(&called, &absent), body).await;
        assert!(there.status.is_client_error(), "{id}: {}", there.status);
        assert_eq!(there.status, not.status, "{id}");
        let text = |answer: &crate::kit::Answer, things: &BTreeMap<&str, String>| {
            let json: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
            json["detail"].as_str().unwrap_or_default().replace(&things[kind], "…")
        };
        assert_eq!(text(&there, &theirs), text(&not, &absent), "{id}");
    }
    // A hunt of others may be seen, and not touched.
    for act in ["pause", "resume", "stop", "extend", "approve"] {
        let path = format!("/v1/hunts/{}/{act}", of_theirs["no"]);
        let body = json!({"expires_in_seconds": 60});
        let body = if act == "extend" { body } else { Value::Null };
        let answer = api.post(&dee, &path, body).await;
        assert!(answer.status.is_client_error(), "{act}: {}", answer.status);
    }
    let stands = api.get(&api.root, &format!("/v1/hunts/{}", of_theirs["no"])).await.expect(200);
    assert_eq!(stands["hunt"]["state"], "running");
    let still = api.get(&api.root, &format!("/v1/endpoints/{}", theirs["endpoints"])).await;
    still.expect(200);
    assert!(whole.values().any(|answer| answer.to_string().contains("boardroom")));
}
