//! One test walks every operation of the OpenAPI document.

use http::Method;
use muster_api::authorise::{Audit, Needs, OPERATIONS, Operation, operation};
use serde_json::{Value, json};

use crate::kit::{Answer, Api};

struct Called {
    method: Method,
    path: String,
    operation: &'static Operation,
}

/// Every operation of the document, with a path whose parts name nothing.
fn walk() -> Vec<Called> {
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
        let below = muster_types::Role::ALL.into_iter().filter(|role| *role < lower).next_back();
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

#[test]
fn the_table_of_operations_and_the_document_name_the_same() {
    let mut documented: Vec<_> = walk().iter().map(|called| called.operation.id).collect();
    let mut known: Vec<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}

#[tokio::test]
async fn the_document_is_as_it_was_reviewed() {
    let api = Api::start().await;
    let mut served = api.get("", "/v1/openapi.json").await.expect(200);
    served["info"]["version"] = "…".into();
    insta::assert_json_snapshot!("openapi", served);
}
