//! `/users`, paging, and refusals that help.

use serde_json::{Value, json};

use crate::kit::Api;

#[tokio::test]
async fn pages_are_stable_while_users_are_added() {
    let api = Api::start().await;
    for name in ["bea", "dan", "fay"] {
        let new = json!({"name": name, "roles": [{"role": "viewer"}]});
        api.post(&api.root, "/v1/users", new).await.expect(201);
    }
    let first = api.get(&api.root, "/v1/users?limit=2").await.expect(200);
    let names = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|u| u["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["bea", "dan"]);
    // One before and one behind the cursor.
    for name in ["amy", "eve"] {
        api.post(&api.root, "/v1/users", json!({"name": name})).await.expect(201);
    }
    let path = format!("/v1/users?limit=9&after={}", first["next"].as_str().unwrap());
    let second = api.get(&api.root, &path).await.expect(200);
    assert_eq!(names(&second), ["eve", "fay", "local"]);
    assert!(second.get("next").is_none());
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let api = Api::start().await;
    let boss = api.user("boss", json!([{"role": "administrator"}])).await;
    api.post(&boss, "/v1/users/boss/disable", Value::Null).await.refused(409, "conflict");
    let none = json!({"roles": [{"role": "administrator", "labels": ["dev"]}]});
    let put = http::Method::PUT;
    api.call(&boss, put.clone(), "/v1/users/boss/roles", none.clone())
        .await
        .refused(409, "conflict");
    api.user("second", json!([{"role": "administrator"}])).await;
    let demoted = api.call(&boss, put, "/v1/users/boss/roles", none).await.expect(200);
    assert_eq!(demoted["roles"], json!([{"role": "administrator", "labels": ["dev"]}]));
    // On a label only: no longer an administrator of everything.
    api.get(&boss, "/v1/users").await.refused(403, "forbidden");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let api = Api::start().await;
    let bad = json!({"name": "ana", "rolls": []});
    let detail = api.post(&api.root, "/v1/users", bad).await.refused(400, "malformed");
    assert!(detail.ends_with("did you mean `roles`?"), "{detail}");
    let bad = json!({"name": "ana", "roles": [{"role": "analist"}]});
    let detail = api.post(&api.root, "/v1/users", bad).await.refused(422, "invalid");
    assert!(detail.ends_with("did you mean analyst?"), "{detail}");
    let bad = json!({"name": "Ana Lyst"});
    api.post(&api.root, "/v1/users", bad).await.refused(422, "invalid");
    let detail = api.get(&api.root, "/v1/users?limt=3").await.refused(400, "malformed");
    assert!(detail.contains("`limit`"), "{detail}");
    api.get(&api.root, "/v1/users?limit=0").await.refused(422, "invalid");
    api.get(&api.root, "/v1/users/nobody").await.refused(404, "not_found");
    api.get(&api.root, "/v1/nowhere").await.refused(404, "not_found");
    api.delete(&api.root, "/v1/users").await.refused(405, "method_not_allowed");
    let huge = json!({"name": "x".repeat(2 << 20)});
    api.post(&api.root, "/v1/users", huge).await.refused(413, "too_large");
    api.get(&api.root, "/v1/users/a%00b").await.refused(400, "malformed");
    let nul = json!({"name": "a\u{0}b"});
    api.post(&api.root, "/v1/users", nul).await.refused(400, "malformed");
    let taken = json!({"name": "local"});
    api.post(&api.root, "/v1/users", taken).await.refused(409, "conflict");
}

#[tokio::test]
async fn pages_of_numbers_go_on_where_the_last_one_ended() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.post(&api.root, "/v1/enrol-secrets", json!({"name": name})).await.expect(201);
    }
    let all = api.get(&api.root, "/v1/enrol-secrets").await.expect(200);
    let all: Vec<&Value> = all["items"].as_array().unwrap().iter().map(|one| &one["no"]).collect();
    let (mut path, mut seen) = ("/v1/enrol-secrets?limit=1".to_owned(), Vec::new());
    while seen.len() < 99 {
        let page = api.get(&api.root, &path).await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
        seen.push(page["items"][0]["no"].clone());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/enrol-secrets?limit=1&after={next}");
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), all);
    for wrong in ["limit=0", "limit=1001", "after=x"] {
        let path = format!("/v1/enrol-secrets?{wrong}");
        api.get(&api.root, &path).await.refused(422, "invalid");
    }
}
