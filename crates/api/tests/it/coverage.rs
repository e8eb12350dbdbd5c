//! One test walks every operation of the OpenAPI document.

use http::Method;
use muster_api::authorise::{Audit, Needs, OPERATIONS, Operation, operation};
use serde_json::{Value, json};

use crate::kit::{Answer, Api};

pub struct Called {
    pub method: Method,
    pub path: String,
    pub operation: &'static Operation,
}

/// Every operation of the document, with a path whose parts name nothing.
pub fn walk() -> Vec<Called> {
    let document = serde_json::to_value(muster_api::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let id = described["operationId"].as_str().unwrap();
            all.push(Called {
                method: method.to_uppercase().parse().unwrap(),
                path: path.replace("{no}", "999999").replace("{name}", "nobody"),
                operation: operation(id).unwrap_or_else(|| panic!("{id} has no row")),
            });
        }
    }
    all
}

async fn call(api: &Api, token: &str, called: &Called) -> Answer {
    let body = match called.method {
        Method::GET | Method::DELETE => Value::Null,
        _ => json!({}),
    };
    api.call(token, called.method.clone(), &called.path, body).await
}

#[tokio::test]
async fn every_operation_asks_who_it_is() {
    let api = Api::start().await;
    for called in walk() {
        let answer = call(&api, "", &called).await;
        if called.operation.needs == Needs::Nobody {
            assert_ne!(answer.status, 401, "{}", called.operation.id);
            continue;
        }
        answer.refused(401, "sign_in_required");
        let unknown = format!("mst_{}", "A".repeat(43));
        call(&api, &unknown, &called).await.refused(401, "sign_in_required");
    }
}

#[tokio::test]
async fn every_operation_refuses_too_low_a_role_and_records_it() {
    let api = Api::start().await;
    let nobody = api.user("nobody-much", json!([])).await;
    for called in walk() {
        let id = called.operation.id;
        let lower = match called.operation.needs {
            Needs::Nobody | Needs::SignIn => continue,
            Needs::Some(role) | Needs::Everything(role) => role,
        };
        call(&api, &nobody, &called).await.refused(403, "forbidden");
        // The role just below, on everything.
        let below = muster_types::Role::ALL.into_iter().rfind(|role| *role < lower);
        if let Some(below) = below {
            let name = format!("just-{below}");
            let path = format!("/v1/users/{name}");
            let token = match api.get(&api.root, &path).await.status.as_u16() {
                200 => api.login(&name, crate::kit::PASSWORD).await,
                _ => api.user(&name, json!([{"role": below}])).await,
            };
            call(&api, &token, &called).await.refused(403, "forbidden");
        }
        let denied = api.audited(&format!("operation={id}&outcome=denied")).await;
        assert_eq!(denied.len(), 1 + usize::from(below.is_some()), "{id}");
    }
}

#[tokio::test]
async fn every_look_that_succeeds_is_recorded() {
    let api = Api::start().await;
    for called in walk() {
        if called.operation.audit != Audit::Look {
            continue;
        }
        let id = called.operation.id;
        let before = api.audited(&format!("operation={id}&outcome=ok")).await.len();
        let answer = call(&api, &api.root, &called).await;
        let after = api.audited(&format!("operation={id}&outcome=ok")).await.len();
        let own = usize::from(id == "audit.list");
        let expected = usize::from(answer.status.is_success());
        assert_eq!(after - before, expected + own, "{id}");
    }
}

/// One change of each kind that succeeds: what, where, with which body.
pub const CHANGES: &[(&str, &str, &str)] = &[
    ("POST", "/v1/users", r#"{"name": "eve", "roles": [{"role": "responder"}]}"#),
    ("PUT", "/v1/users/eve/roles", r#"{"roles": [{"role": "viewer"}]}"#),
    ("POST", "/v1/users/eve/reset", ""),
    ("POST", "/v1/users/eve/disable", ""),
    ("POST", "/v1/users/eve/enable", ""),
    ("POST", "/v1/tokens", r#"{"name": "export"}"#),
    ("DELETE", "/v1/tokens/1", ""),
    ("POST", "/v1/labels", r#"{"name": "l1"}"#),
    ("POST", "/v1/labels/l1/endpoints", r#"{"add": [1]}"#),
    ("PUT", "/v1/labels/l1/rule", r#"{"query": "SELECT 1 AS endpoint"}"#),
    ("DELETE", "/v1/labels/l1/rule", ""),
    ("DELETE", "/v1/labels/l1", ""),
    ("POST", "/v1/policies", r#"{"name": "p", "query": "SELECT 1"}"#),
    ("PUT", "/v1/policies/1", r#"{"name": "p", "query": "SELECT 2"}"#),
    ("DELETE", "/v1/policies/1", ""),
    ("POST", "/v1/endpoints/3/refetch", ""),
    ("POST", "/v1/enrol-secrets", r#"{"name": "s", "labels": ["l2"]}"#),
    ("DELETE", "/v1/enrol-secrets/1", ""),
    ("POST", "/v1/node-keys", ""),
    ("POST", "/v1/node-keys", ""),
    ("DELETE", "/v1/node-keys/1", ""),
    ("POST", "/v1/cas", ""),
    ("POST", "/v1/cas/2/sign", r#"{"leave_behind": true}"#),
    ("DELETE", "/v1/cas/1", ""),
    (
        "POST",
        "/v1/artifacts",
        r#"{"yaml": "name: a.b\ntitle: t\ncolumns: [{name: a, type: int}]\nsources: {native: {query: SELECT 1 AS a}}"}"#,
    ),
    ("DELETE", "/v1/artifacts/a.b", ""),
    ("POST", "/v1/schedules", r#"{"name": "uptime", "query": "SELECT * FROM uptime"}"#),
    ("PATCH", "/v1/schedules/1", r#"{"interval_s": 60}"#),
    ("DELETE", "/v1/schedules/1", ""),
    ("PUT", "/v1/osquery/config/base", r#"{"config": {"options": {"logger_tls_period": 10}}}"#),
    ("DELETE", "/v1/osquery/config/base", ""),
    ("PUT", "/v1/osquery/yara/a.yar", r#"{"text": "rule a { condition: true }"}"#),
    ("DELETE", "/v1/osquery/yara/a.yar", ""),
    ("POST", "/v1/sinks", r#"{"name": "s1", "destination": {"kind": "stdout"}}"#),
    ("POST", "/v1/sinks/s1/test", ""),
    ("POST", "/v1/sinks/s1/pause", ""),
    ("POST", "/v1/sinks/s1/resume", ""),
    ("DELETE", "/v1/sinks/s1", ""),
    ("POST", "/v1/debug-archives", r#"{"seconds": 0}"#),
    ("POST", "/v1/hunts", r#"{"query": "SELECT 1"}"#),
    ("POST", "/v1/hunts", r#"{"query": "SELECT 2"}"#),
    ("POST", "/v1/hunts", r#"{"query": "SELECT 3"}"#),
    ("POST", "/v1/queries", r#"{"query": "SELECT 1", "scope": {"endpoints": [1]}}"#),
    ("POST", "/v1/collections", r#"{"artifact": "linux.processes", "endpoints": [1]}"#),
    ("POST", "/v1/approvals/1/approve", r#"{"reason": "fine"}"#),
    ("POST", "/v1/approvals/2/deny", ""),
    ("POST", "/v1/hunts/3/approve", ""),
    ("POST", "/v1/hunts/1/pause", ""),
    ("POST", "/v1/hunts/1/resume", ""),
    ("POST", "/v1/hunts/1/extend", r#"{"expires_in_seconds": 1000000}"#),
    ("POST", "/v1/hunts/1/hold", r#"{"until": "2030-01-01T00:00:00Z"}"#),
    ("POST", "/v1/hunts/1/hold", ""),
    ("POST", "/v1/hunts/1/stop", ""),
    ("DELETE", "/v1/hunts/1", ""),
    ("DELETE", "/v1/endpoints/1", ""),
    ("POST", "/v1/logout", ""),
];

#[tokio::test]
async fn every_change_that_succeeds_is_recorded_on_both_databases() {
    for temp in muster_testkit::TempCatalog::both().await.unwrap() {
        let adjust = |with: &mut crate::kit::Adjust| {
            with.options.approvals.hunt_above_endpoints = Some(1);
        };
        let api = Api::on(temp, adjust).await;
        api.endpoint("one", true, "").await;
        api.endpoint("two", false, "").await;
        api.osquery_endpoint("three").await;
        let ana = api.user("ana", json!([{"role": "administrator"}])).await;
        let bob = api.user("bob", json!([{"role": "responder"}])).await;
        for (method, path, body) in CHANGES {
            let decides = path.contains("/approve") || path.contains("/deny");
            let own_token = *path == "/v1/tokens/1";
            let token = if decides { &bob } else { &ana };
            let body =
                if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
            // Token 1 is the one this test reads the log with: end a fresh one instead.
            let path = if own_token { token_of(&api, &ana).await } else { (*path).to_owned() };
            let answer = api.call(token, method.parse().unwrap(), &path, body).await;
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            assert!(answer.status.is_success(), "{method} {path}: {text}");
        }
        let audited = api.audited("outcome=ok").await;
        for operation in OPERATIONS.iter().filter(|operation| operation.audit == Audit::Change) {
            let found = audited.iter().any(|record| record["operation"] == operation.id);
            assert!(found, "{} left no record", operation.id);
        }
        let verdict = api.get(&api.root, "/v1/audit/verify").await.expect(200);
        assert_eq!(verdict["intact"], true);
        for called in walk().iter().filter(|called| called.operation.audit == Audit::Look) {
            let answer = call(&api, &api.root, called).await;
            assert!(answer.status.as_u16() < 500, "{}", called.operation.id);
        }
    }
}

pub async fn token_of(api: &Api, token: &str) -> String {
    let listed = api.get(token, "/v1/tokens?limit=1000").await.expect(200);
    let items = listed["items"].as_array().unwrap();
    let made = items.iter().find(|item| item["kind"] == "token").unwrap();
    format!("/v1/tokens/{}", made["no"])
}

#[tokio::test]
async fn head_needs_what_get_needs() {
    let api = Api::start().await;
    for called in walk().iter().filter(|called| called.method == Method::GET) {
        let answer = api.call("", Method::HEAD, &called.path, Value::Null).await;
        assert_eq!(answer.status, 401, "{}", called.operation.id);
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_told_with_a_time_to_come_again() {
    let api = Api::start().await;
    api.catalog.close().await;
    let answer = api.get(&api.root, "/v1/endpoints").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.refused(503, "unavailable");
}

#[test]
fn the_table_of_operations_and_the_document_name_the_same() {
    let mut documented: Vec<_> = walk().iter().map(|called| called.operation.id).collect();
    let mut known: Vec<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}

/// The table in the handbook has a row for each operation: its method and path, and who may call it.
#[test]
fn the_handbook_lists_every_operation() {
    let handbook = include_str!("../../../../docs/src/api.md");
    let document = serde_json::to_value(muster_api::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let id = described["operationId"].as_str().unwrap();
            let needs = match operation(id).unwrap().needs {
                Needs::Nobody => "nobody".to_owned(),
                Needs::SignIn => "signed in".to_owned(),
                Needs::Some(role) => role.to_string(),
                Needs::Everything(role) => format!("{role}, everything"),
            };
            let row = format!("| `{} {path}` | {needs} |", method.to_uppercase());
            let listed = handbook
                .lines()
                .any(|line| line.starts_with(&format!("| `{id}` ")) && line.contains(&row));
            assert!(listed, "docs/src/api.md lacks: | `{id}` {row}");
        }
    }
}

#[tokio::test]
async fn the_document_is_as_it_was_reviewed() {
    let api = Api::start().await;
    let mut served = api.get("", "/v1/openapi.json").await.expect(200);
    served["info"]["version"] = "…".into();
    insta::assert_json_snapshot!("openapi", served);
}
