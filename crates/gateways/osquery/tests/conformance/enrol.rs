//! Enrolment (section 4).

use std::time::Duration;

use muster_endpoints::{NewSecret, create_secret, revoke_secret, set_agent_blocked};
use muster_gateway::EnrolmentRates;
use muster_gateway_osquery::{Identifier, Options};
use muster_types::{AgentNo, OrgId};
use serde_json::{Value, json};

use crate::client::{Means, enrolment};
use crate::rig::{NOW, Rig, Setup};

#[tokio::test]
async fn enrol_gives_a_key_that_is_not_blank() {
    let rig = Rig::start().await;
    let reply = rig.try_enrol("host-1", "a").await;
    assert_eq!(reply.status, 200);
    let key = reply.json()["node_key"].as_str().unwrap().to_owned();
    assert!(!key.trim().is_empty());
    let snapshot = rig.directory.snapshot();
    let agent = snapshot.agent(AgentNo(1)).expect("known at once");
    assert_eq!((&*agent.hostname, &*agent.facts.platform), ("host-1.example", "linux"));
    assert_eq!((&*agent.facts.os_name, &*agent.facts.version), ("Ubuntu", "5.22.1"));
    assert_eq!(rig.read(&key).await.json(), json!({"queries": {}}));
    rig.stop().await;
}

#[tokio::test]
async fn enrol_works_on_all_families_of_paths() {
    let rig = Rig::start().await;
    let paths = ["/api/osquery/enroll", "/api/v1/osquery/enroll", "/berlin/enroll"];
    for (n, path) in paths.iter().enumerate() {
        let body = enrolment(&rig.secret, &format!("host-{n}"), "a");
        let reply = rig.far.post_json(path, &body).await;
        assert!(reply.json()["node_key"].is_string(), "{path}: {reply:?}");
    }
    let elsewhere = enrolment(&rig.secret, "host-9", "a");
    let reply = rig.far.post_json("/paris/enroll", &elsewhere).await;
    assert_eq!(reply.means(), Means::KeepAndRetry, "the secret is of another environment");
    rig.stop().await;
}

#[tokio::test]
async fn enrol_refuses_a_wrong_secret_in_words() {
    let rig = Rig::start().await;
    for secret in ["", "guessed", "mes_wrong"] {
        let body = enrolment(secret, "host-1", "a");
        let reply = rig.far.post_json("/api/osquery/enroll", &body).await;
        assert_eq!((reply.status, reply.means()), (403, Means::KeepAndRetry), "{secret}");
    }
    assert_eq!(rig.directory.snapshot().agent_count(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn enrol_secrets_are_several_and_end() {
    let rig = Rig::start().await;
    let new = NewSecret {
        name: "paris".into(),
        labels: vec!["paris".into()],
        expires_at: Some(NOW.plus(Duration::from_secs(60))),
        ..NewSecret::default()
    };
    let catalog = &rig.store.catalog;
    let (_, other) = create_secret(catalog, OrgId::DEFAULT, &new, "ana", NOW).await.unwrap();
    let with = |secret: &str, n: u32| enrolment(secret, &format!("host-{n}"), "a");
    let post = |body: Value| {
        let far = rig.far.clone();
        async move { far.post_json("/api/osquery/enroll", &body).await.means() }
    };
    assert_eq!(post(with(&other, 1)).await, Means::Success);
    assert_eq!(post(with(&rig.secret, 2)).await, Means::Success);
    let snapshot = rig.directory.refresh().await.unwrap();
    let labelled: Vec<_> = snapshot
        .endpoints(OrgId::DEFAULT)
        .map(|endpoint| snapshot.labels_of(endpoint).map(|label| label.name.to_string()).collect())
        .collect::<Vec<Vec<String>>>();
    assert_eq!(labelled, [vec!["paris".to_owned()], Vec::new()]);
    rig.clock.advance(Duration::from_secs(60));
    assert_eq!(post(with(&other, 3)).await, Means::KeepAndRetry, "expired");
    assert!(revoke_secret(catalog, OrgId::DEFAULT, 1, NOW).await.unwrap());
    assert_eq!(post(with(&rig.secret, 4)).await, Means::KeepAndRetry, "revoked");
    rig.stop().await;
}

#[tokio::test]
async fn enrol_is_idempotent() {
    let rig = Rig::start().await;
    let first = rig.enrol("host-1", "a").await;
    assert_eq!(rig.enrol("host-1", "a").await, first, "the double send");
    rig.clock.advance(Duration::from_secs(120));
    let second = rig.enrol("host-1", "a").await;
    assert_ne!(second, first);
    assert_eq!(rig.directory.refresh().await.unwrap().agent_count(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn enrol_survives_the_race_of_two_threads() {
    let rig = Rig::start().await;
    let old = rig.enrol("host-1", "a").await;
    rig.clock.advance(Duration::from_secs(3600));
    // Both threads were told node_invalid; each throws the current key away and enrols.
    let (one, two) = tokio::join!(rig.enrol("host-1", "a"), rig.enrol("host-1", "a"));
    assert_eq!(one, two, "whichever the agent keeps is good");
    rig.directory.refresh().await.unwrap();
    for key in [&old, &one, &two] {
        assert_eq!(rig.read(key).await.means(), Means::Success);
    }
    rig.clock.advance(Duration::from_secs(61));
    assert_eq!(rig.read(&old).await.means(), Means::EnrolAgain);
    assert_eq!(rig.read(&two).await.means(), Means::Success);
    assert_eq!(rig.directory.snapshot().agent_count(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn enrol_tells_cloned_machines_apart() {
    let rig = Rig::start().await;
    let one = rig.enrol("same-uuid", "a").await;
    let two = rig.enrol("same-uuid", "b").await;
    rig.clock.advance(Duration::from_secs(120));
    for key in [&one, &two] {
        assert_eq!(rig.read(key).await.means(), Means::Success, "nobody loses its key");
    }
    let snapshot = rig.directory.refresh().await.unwrap();
    assert_eq!(snapshot.agent(AgentNo(2)).unwrap().clone_of, Some(AgentNo(1)));
    assert_eq!(snapshot.endpoints(OrgId::DEFAULT).count(), 2);
    assert_eq!(rig.metrics.clones.get(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn enrol_may_go_by_another_identifier() {
    let options = Options { identifier: Identifier::Instance, ..Options::default() };
    let rig = Rig::with(Setup { options, ..Setup::default() }).await;
    rig.enrol("localhost", "a").await;
    rig.enrol("localhost", "b").await;
    let snapshot = rig.directory.refresh().await.unwrap();
    assert_eq!(snapshot.agent_count(), 2);
    assert!(snapshot.agents(OrgId::DEFAULT).all(|agent| agent.clone_of.is_none()));
    rig.stop().await;
}

#[tokio::test]
async fn enrol_takes_agents_that_tell_nothing_of_their_host() {
    let rig = Rig::start().await;
    let secret = &rig.secret;
    let bodies = [
        json!({"enroll_secret": secret, "host_identifier": "old-1"}),
        json!({"enroll_secret": secret, "host_identifier": "old-2", "platform_type": "2",
            "host_details": {"system_info": {"hostname": "win"}}}),
    ];
    for body in bodies {
        let reply = rig.far.post_json("/api/osquery/enroll", &body).await;
        assert!(reply.json()["node_key"].is_string(), "{reply:?}");
    }
    let snapshot = rig.directory.snapshot();
    assert_eq!(&*snapshot.agent(AgentNo(1)).unwrap().hostname, "old-1");
    assert_eq!(&*snapshot.agent(AgentNo(2)).unwrap().facts.platform, "windows");
    let nameless = json!({"enroll_secret": secret, "host_identifier": " "});
    let reply = rig.far.post_json("/api/osquery/enroll", &nameless).await;
    assert_eq!(reply.means(), Means::KeepAndRetry);
    rig.stop().await;
}

#[tokio::test]
async fn enrol_is_bounded_after_the_secret_was_found_right() {
    let rates = EnrolmentRates { per_second: 2, ..EnrolmentRates::default() };
    let rig = Rig::with(Setup { rates, ..Setup::default() }).await;
    for _ in 0..20 {
        let body = enrolment("guessed", "host-1", "a");
        assert_eq!(rig.far.post_json("/x/enroll", &body).await.status, 403);
    }
    let mut replies = Vec::new();
    for n in 0..3 {
        replies.push(rig.try_enrol(&format!("host-{n}"), "a").await);
    }
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 503], "those who guess used up nobody's place");
    assert_eq!(replies[2].means(), Means::KeepAndRetry);
    rig.stop().await;
}

#[tokio::test]
async fn enrol_of_a_blocked_agent_is_refused_and_it_keeps_its_key() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    set_agent_blocked(&rig.store.catalog, OrgId::DEFAULT, AgentNo(1), true).await.unwrap();
    rig.directory.refresh().await.unwrap();
    assert_eq!(rig.read(&key).await.means(), Means::KeepAndRetry);
    rig.clock.advance(Duration::from_secs(120));
    assert_eq!(rig.try_enrol("host-1", "a").await.means(), Means::KeepAndRetry);
    set_agent_blocked(&rig.store.catalog, OrgId::DEFAULT, AgentNo(1), false).await.unwrap();
    rig.directory.refresh().await.unwrap();
    assert_eq!(rig.read(&key).await.means(), Means::Success);
    rig.stop().await;
}

#[tokio::test]
async fn a_secret_and_its_keys_may_need_a_client_certificate() {
    let setup = || Setup { client_certificates: true, ..Setup::default() };
    for presented in [true, false] {
        let rig = Rig::with(if presented { setup() } else { Setup::default() }).await;
        let new = NewSecret { client_certificate: true, ..NewSecret::default() };
        let made = create_secret(&rig.store.catalog, OrgId::DEFAULT, &new, "ana", NOW).await;
        let body = enrolment(&made.unwrap().1, "host-1", "a");
        let reply = rig.far.post_json("/api/osquery/enroll", &body).await;
        let wanted = if presented { Means::Success } else { Means::KeepAndRetry };
        assert_eq!(reply.means(), wanted, "{reply:?}");
        if presented {
            let key = reply.json()["node_key"].as_str().unwrap().to_owned();
            assert_eq!(rig.read(&key).await.means(), Means::Success);
            // Whoever got hold of the key alone has nothing, and the agent itself loses nothing by it.
            let thief = rig.seen_by(rustls::ALL_VERSIONS);
            let body = json!({"node_key": key});
            let reply = thief.post_json("/api/osquery/distributed/read", &body).await;
            assert_eq!((reply.status, reply.means()), (403, Means::KeepAndRetry), "{reply:?}");
            assert_eq!(rig.read(&key).await.means(), Means::Success);
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn enrol_while_the_catalog_is_away_is_an_error_to_come_again_after() {
    let rig = Rig::start().await;
    let key = rig.enrol("host-1", "a").await;
    rig.store.catalog.close().await;
    let body = enrolment(&rig.secret, "host-2", "b");
    let reply = rig.far.post_json("/api/osquery/enroll", &body).await;
    assert_eq!((reply.status, reply.means()), (503, Means::KeepAndRetry), "{reply:?}");
    // Those who have a key go on with it.
    assert_eq!(rig.read(&key).await.means(), Means::Success);
    rig.stop().await;
}
