//! Signing in and one's own account.

use std::time::Duration;

use muster_api::auth::password::Cost;
use muster_api::auth::throttle::{Allowance, Throttle};
use muster_api::auth::{bootstrap, store};
use muster_catalog::{Priority, Tx, args};
use muster_types::OrgId;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::kit::{Api, PASSWORD, START};

muster_catalog::statements! {
    TEN_SECONDS_PASS = "UPDATE sign_in_allowance SET used_until = used_until - 10000000";
    USED = "SELECT MAX(used_until) AS used FROM sign_in_allowance";
    AN_HOUR_AHEAD = "UPDATE sign_in_allowance SET used_until = used_until + 3600000000";
}

#[tokio::test]
async fn the_first_administrator_must_change_the_one_time_password() {
    let api = Api::start().await;
    let password = bootstrap::bootstrap_admin(&api.catalog, START).await.unwrap().unwrap();
    assert!(bootstrap::bootstrap_admin(&api.catalog, START).await.unwrap().is_none());
    let token = api.login("admin", password.expose_secret()).await;
    let detail = api.get(&token, "/v1/users").await.refused(403, "password_change_required");
    assert!(detail.contains("/v1/password"), "{detail}");
    assert_eq!(api.get(&token, "/v1/whoami").await.expect(200)["must_change"], true);

    let weak = json!({"current_password": password.expose_secret(), "new_password": "short"});
    api.post(&token, "/v1/password", weak).await.refused(422, "invalid");
    let wrong = json!({"current_password": "wrong", "new_password": PASSWORD});
    api.post(&token, "/v1/password", wrong).await.refused(422, "invalid");
    let good = json!({"current_password": password.expose_secret(), "new_password": PASSWORD});
    api.post(&token, "/v1/password", good).await.expect(204);
    api.get(&token, "/v1/users").await.expect(200);
    let old = json!({"name": "admin", "password": password.expose_secret()});
    api.post("", "/v1/login", old).await.refused(401, "sign_in_failed");
}

#[tokio::test]
async fn an_unknown_name_is_answered_like_a_wrong_password() {
    let api = Api::start().await;
    api.user("ana", json!([])).await;
    let wrong = json!({"name": "ana", "password": "wrong"});
    let wrong = api.post("", "/v1/login", wrong).await.refused(401, "sign_in_failed");
    let unknown = json!({"name": "nobody", "password": "wrong"});
    let unknown = api.post("", "/v1/login", unknown).await.refused(401, "sign_in_failed");
    assert_eq!(wrong, unknown);
    // The account behind the local context has no password at all.
    let local = json!({"name": "local", "password": "!"});
    api.post("", "/v1/login", local).await.refused(401, "sign_in_failed");
}

#[tokio::test]
async fn guessing_is_slowed_down_by_name_and_by_address() {
    let api = Api::start().await;
    api.user("ana", json!([])).await;
    let guess = |name: &str| json!({"name": name, "password": "wrong"});
    for _ in 0..5 {
        api.post("", "/v1/login", guess("ana")).await.refused(401, "sign_in_failed");
    }
    let answer = api.post("", "/v1/login", guess("ana")).await;
    let wait: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    answer.refused(429, "too_many_requests");
    // Another name from the same address waits as well.
    api.post("", "/v1/login", guess("bob")).await.refused(429, "too_many_requests");
    api.clock.advance(Duration::from_secs(10));
    // Over all instances it is counted by the database's clock, which no test sets forward: so what is
    // used is set back.
    let mut tx = api.catalog.begin(Priority::Api).await.unwrap();
    assert!(tx.execute(&TEN_SECONDS_PASS, args![]).await.unwrap() >= 2, "a name, an address");
    tx.commit().await.unwrap();
    api.login("ana", PASSWORD).await;
}

#[tokio::test]
async fn a_session_ends_by_itself_by_logout_and_with_its_user() {
    let api = Api::start().await;
    let ana = api.user("ana", json!([{"role": "viewer"}])).await;
    let second = api.login("ana", PASSWORD).await;
    api.post(&second, "/v1/logout", Value::Null).await.expect(204);
    api.get(&second, "/v1/whoami").await.refused(401, "sign_in_required");
    api.get(&ana, "/v1/whoami").await.expect(200);

    api.post(&api.root, "/v1/users/ana/disable", Value::Null).await.expect(204);
    api.get(&ana, "/v1/whoami").await.refused(401, "sign_in_required");
    let right = json!({"name": "ana", "password": PASSWORD});
    api.post("", "/v1/login", right).await.refused(401, "sign_in_failed");

    api.post(&api.root, "/v1/users/ana/enable", Value::Null).await.expect(204);
    let again = api.login("ana", PASSWORD).await;
    api.clock.advance(Duration::from_secs(24 * 3600));
    api.get(&again, "/v1/whoami").await.refused(401, "sign_in_required");
}

#[tokio::test]
async fn a_reset_beside_the_store_brings_a_locked_out_administrator_back() {
    let api = Api::start().await;
    bootstrap::bootstrap_admin(&api.catalog, START).await.unwrap();
    api.user("boss", json!([{"role": "administrator"}])).await;
    api.post(&api.root, "/v1/users/admin/disable", Value::Null).await.expect(204);
    let password = bootstrap::reset_user(&api.catalog, "admin", START).await.unwrap();
    api.login("admin", password.expose_secret()).await;
    assert!(bootstrap::reset_user(&api.catalog, "nobody", START).await.is_err());
}

#[tokio::test]
async fn a_token_is_never_more_than_its_user_and_can_be_less() {
    let api = Api::start().await;
    let ana = api.user("ana", json!([{"role": "responder"}])).await;
    let new = json!({"name": "export", "role": "viewer", "expires_in_seconds": 60});
    let made = api.post(&ana, "/v1/tokens", new).await.expect(201);
    let token = made["token"].as_str().unwrap();
    let me = api.get(token, "/v1/whoami").await.expect(200);
    assert_eq!(me["roles"], json!([{"role": "viewer"}]));
    // A token cannot make one that is more than itself.
    let more = json!({"name": "more", "role": "responder"});
    let more = api.post(token, "/v1/tokens", more).await.expect(201);
    let me = api.get(more["token"].as_str().unwrap(), "/v1/whoami").await.expect(200);
    assert_eq!(me["roles"], json!([{"role": "viewer"}]));

    let bob = api.user("bob", json!([{"role": "viewer"}])).await;
    let path = format!("/v1/tokens/{}", made["no"]);
    api.delete(&bob, &path).await.refused(404, "not_found");
    api.get(&bob, "/v1/tokens?all=true").await.refused(403, "forbidden");
    api.clock.advance(Duration::from_secs(60));
    api.get(token, "/v1/whoami").await.refused(401, "sign_in_required");
    api.delete(&ana, &format!("/v1/tokens/{}", more["no"])).await.expect(204);
    let listed = api.get(&ana, "/v1/tokens").await.expect(200);
    assert!(!listed.to_string().contains(token), "{listed}");
}

#[test]
fn an_instance_whose_clock_was_set_forward_and_back_locks_nobody_out() {
    let throttle = Throttle::new(Allowance { burst: 3, every: Duration::from_secs(10) });
    let at = |seconds: u64| START.plus(Duration::from_secs(seconds));
    for _ in 0..3 {
        throttle.take("ana", at(100_000)).unwrap();
    }
    for _ in 0..3 {
        throttle.take("ana", at(100)).unwrap();
    }
    assert!(throttle.take("ana", at(100)).is_err());
    // One that read the clock before the others and comes behind them.
    assert!(throttle.take("ana", at(99)).is_err());
    assert!(throttle.take("ana", at(100)).is_err());
    throttle.take("ana", at(110)).unwrap();
}

#[tokio::test]
async fn a_clock_that_was_set_forward_and_back_locks_nobody_out() {
    let api = Api::start().await;
    api.user("ana", json!([])).await;
    let mut tx = api.catalog.begin(Priority::Api).await.unwrap();
    assert!(tx.execute(&AN_HOUR_AHEAD, args![]).await.unwrap() >= 2, "a name, an address");
    tx.commit().await.unwrap();
    api.login("ana", PASSWORD).await;
    // From now on it counts as always.
    let guess = json!({"name": "ana", "password": "wrong"});
    for _ in 0..5 {
        api.post("", "/v1/login", guess.clone()).await.refused(401, "sign_in_failed");
    }
    api.post("", "/v1/login", guess).await.refused(429, "too_many_requests");
}

/// What a reset does, once it has hashed the new password.
async fn reset(mut tx: Tx, name: &str) {
    let account = store::find_user_in(&mut tx, OrgId::DEFAULT, name).await.unwrap().unwrap();
    let change = tx.bump("access").await.unwrap();
    store::set_password(&mut tx, account.no, "!", true, change).await.unwrap();
    store::revoke_all(&mut tx, account.no, START).await.unwrap();
    tx.commit().await.unwrap();
}

/// The same while others wait for their turn to write, who have read and verified everything by then.
async fn reset_late(tx: Tx, name: &str) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    reset(tx, name).await;
}

#[tokio::test]
async fn a_reset_ends_what_is_being_made_meanwhile() {
    let api = Api::start().await;
    let roles = json!([{"role": "viewer"}]);
    let (ana, bob) = (api.user("ana", roles.clone()).await, api.user("bob", roles).await);

    let tx = api.catalog.begin(Priority::Api).await.unwrap();
    let mint = api.post(&ana, "/v1/tokens", json!({"name": "mine for ever"}));
    let (minted, ()) = tokio::join!(mint, reset_late(tx, "ana"));
    minted.refused(401, "sign_in_required");

    let tx = api.catalog.begin(Priority::Api).await.unwrap();
    let change = json!({"current_password": PASSWORD, "new_password": "mine again and again"});
    let change = api.post(&bob, "/v1/password", change);
    let (changed, ()) = tokio::join!(change, reset_late(tx, "bob"));
    changed.refused(422, "invalid");
}

#[tokio::test]
async fn a_reset_ends_a_sign_in_that_is_under_way() {
    let slow = Cost { memory_kib: 8, passes: 5_000 };
    let api = Api::with(|with| with.options.password_cost = slow).await;
    api.user("ana", json!([{"role": "viewer"}])).await;
    let used = async || {
        let row = api.catalog.fetch_optional(&USED, args![]).await.unwrap().unwrap();
        row.get::<Option<i64>>("used").unwrap()
    };
    let before = used().await;
    let sign_in = api.post("", "/v1/login", json!({"name": "ana", "password": PASSWORD}));
    let reset = async {
        // An attempt is counted just before the account is looked up and the password verified.
        while used().await == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        reset(api.catalog.begin(Priority::Api).await.unwrap(), "ana").await;
    };
    let (session, ()) = tokio::join!(sign_in, reset);
    // On a machine that verified sooner than that, the reset came behind the session and ended it.
    if session.status == 200 {
        let token = session.expect(200)["token"].as_str().unwrap().to_owned();
        api.get(&token, "/v1/whoami").await.refused(401, "sign_in_required");
    } else {
        session.refused(401, "sign_in_failed");
    }
}
