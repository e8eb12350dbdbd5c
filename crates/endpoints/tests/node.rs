//! Enrolment that ends in a node key, on both databases.

mod common;

use std::time::Duration;

use common::{NOW, directory};
use muster_catalog::Catalog;
use muster_endpoints::node_key::{KeyRing, NodeKeys, Rejected, list_keys, retire_key, rotate_keys};
use muster_endpoints::{
    Enrol, EnrolError, EnrolNode, LIVE_WITHIN, NewSecret, NodeEnrolled, create_secret,
    delete_endpoint, enrol_node, grant_node, set_agent_blocked,
};
use muster_testkit::TempCatalog;
use muster_types::{AgentKind, AgentNo, OrgId, TestClock, Timestamp};

const ORG: OrgId = OrgId::DEFAULT;

struct Rig {
    temp: TempCatalog,
    secret: String,
}

impl Rig {
    async fn all() -> Vec<Self> {
        let mut rigs = Vec::new();
        for temp in TempCatalog::both().await.unwrap() {
            let new = NewSecret { name: "berlin".into(), ..NewSecret::default() };
            let made = create_secret(&temp.catalog, ORG, &new, "ana", NOW).await.unwrap();
            rigs.push(Self { temp, secret: made.1 });
        }
        rigs
    }

    fn catalog(&self) -> &Catalog {
        &self.temp.catalog
    }

    /// The machine with this identifier, and this instance of osquery on it.
    fn node(&self, identifier: &str, instance: &str) -> EnrolNode {
        let native = common::native(1);
        EnrolNode {
            enrol: Enrol {
                kind: AgentKind::Osquery,
                external_id: identifier.into(),
                public_key: None,
                machine: None,
                secret: Some(self.secret.clone()),
                ..native
            },
            instance: instance.into(),
            environment: None,
            has_certificate: false,
        }
    }

    async fn enrol_at(&self, node: &EnrolNode, now: Timestamp) -> Result<NodeEnrolled, EnrolError> {
        let granted = grant_node(self.catalog(), node, now).await?;
        enrol_node(self.catalog(), node, granted, std::sync::Arc::new(|_| None), now).await
    }
}

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_race_get_one_agent_and_one_key() {
    for rig in Rig::all().await {
        let node = rig.node("host-1", "a");
        let tries = (0..6).map(|_| rig.enrol_at(&node, NOW));
        let done: Vec<_> =
            futures_util::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        assert!(done.iter().all(|one| one.enrolled.agent == AgentNo(1)));
        assert_eq!(done.iter().filter(|one| one.enrolled.is_new).count(), 1);
        let again = rig.enrol_at(&node, after(59)).await.unwrap();
        assert!(done.iter().all(|one| one.key == again.key), "within a minute the key is the same");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_agent_rise_strictly_and_the_one_before_has_a_minute() {
    for rig in Rig::all().await {
        let directory = directory(rig.catalog()).await;
        let keys = NodeKeys::new(KeyRing::fixed([1; 32]), directory.clone());
        let node = rig.node("host-1", "a");
        let first = rig.enrol_at(&node, NOW).await.unwrap();
        let second = rig.enrol_at(&node, after(100)).await.unwrap();
        assert_eq!(first.enrolled.agent, second.enrolled.agent);
        assert!(second.key.issued_at > first.key.issued_at);
        // The clock was set back: the key is newer all the same.
        let third = rig.enrol_at(&node, NOW).await.unwrap();
        assert_eq!(third.key.issued_at, second.key.issued_at, "as lately as that");
        directory.refresh().await.unwrap();
        let judge = |key: &NodeEnrolled, at| keys.judge(&keys.issue(&key.key), at).map(|n| n.agent);
        assert_eq!(judge(&second, after(1_000_000)), Ok(AgentNo(1)));
        assert_eq!(judge(&first, after(159)), Ok(AgentNo(1)));
        assert_eq!(judge(&first, after(160)), Err(Rejected::Invalid));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_machine_with_the_same_identifier_is_another_agent_for_ever() {
    for rig in Rig::all().await {
        let (one, two) = (rig.node("uuid-1", "a"), rig.node("uuid-1", "b"));
        let first = rig.enrol_at(&one, NOW).await.unwrap();
        let second = rig.enrol_at(&two, after(30)).await.unwrap();
        assert_eq!(second.clone_of, Some(first.enrolled.agent));
        assert_ne!(second.enrolled.endpoint, first.enrolled.endpoint);
        for round in [100, 5_000, 100_000] {
            let (one, two) = (
                rig.enrol_at(&one, after(round)).await.unwrap(),
                rig.enrol_at(&two, after(round + 1)).await.unwrap(),
            );
            assert_eq!(one.enrolled.agent, first.enrolled.agent, "nobody takes another's record");
            assert_eq!(two.enrolled.agent, second.enrolled.agent);
        }
        let snapshot = directory(rig.catalog()).await.snapshot();
        let clone = snapshot.agent(second.enrolled.agent).unwrap();
        assert_eq!(clone.clone_of, Some(first.enrolled.agent), "people see it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_no_instance_does_not_take_over_a_live_machine_that_tells_one() {
    for rig in Rig::all().await {
        let first = rig.enrol_at(&rig.node("uuid-1", "a"), NOW).await.unwrap();
        let mute = rig.enrol_at(&rig.node("uuid-1", ""), after(30)).await.unwrap();
        assert_eq!(mute.clone_of, Some(first.enrolled.agent));
        let again = rig.enrol_at(&rig.node("uuid-1", ""), after(5_000)).await.unwrap();
        assert_eq!(again.enrolled.agent, mute.enrolled.agent);
        // Installed anew after a silence, and where none ever told one.
        let anew = rig.node("uuid-2", "a");
        let old = rig.enrol_at(&anew, NOW).await.unwrap();
        let later = NOW.plus(LIVE_WITHIN);
        let taken = rig.enrol_at(&rig.node("uuid-2", ""), later).await.unwrap();
        assert_eq!((taken.enrolled.agent, taken.clone_of), (old.enrolled.agent, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_silent_and_comes_as_another_instance_was_installed_anew() {
    for rig in Rig::all().await {
        let first = rig.enrol_at(&rig.node("uuid-1", "a"), NOW).await.unwrap();
        let later = NOW.plus(LIVE_WITHIN);
        let again = rig.enrol_at(&rig.node("uuid-1", "b"), later).await.unwrap();
        assert_eq!(again.enrolled.agent, first.enrolled.agent);
        assert_eq!(again.clone_of, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_under_identifiers_of_their_own_do_not_share_an_endpoint() {
    for rig in Rig::all().await {
        let with_machine = |identifier: &str, instance: &str| {
            let mut node = rig.node(identifier, instance);
            node.enrol.machine = Some("dmi-1".into());
            node
        };
        let first = rig.enrol_at(&with_machine("a", "a"), NOW).await.unwrap();
        let copy = rig.enrol_at(&with_machine("b", "b"), after(5)).await.unwrap();
        assert_eq!(copy.clone_of, Some(first.enrolled.agent));
        assert_ne!(copy.enrolled.endpoint, first.enrolled.endpoint);
        // The same installation under another identifier: its flag was changed.
        let renamed = rig.enrol_at(&with_machine("host-1", "a"), after(9)).await.unwrap();
        assert_eq!((renamed.enrolled.endpoint, renamed.clone_of), (first.enrolled.endpoint, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gives_its_labels_only_to_an_endpoint_it_made() {
    for rig in Rig::all().await {
        let there = muster_endpoints::enrol(rig.catalog(), &common::native(1), NOW).await.unwrap();
        let new = NewSecret { labels: vec!["mine".into()], ..NewSecret::default() };
        let (_, secret) = create_secret(rig.catalog(), ORG, &new, "eve", NOW).await.unwrap();
        let with_machine = |identifier: &str, machine: Option<String>| {
            let mut node = rig.node(identifier, identifier);
            (node.enrol.machine, node.enrol.secret) = (machine, Some(secret.clone()));
            node
        };
        // Whoever says to be that machine joins it, and sees no more of it than before.
        let joins = with_machine("a", common::native(1).machine);
        let joined = rig.enrol_at(&joins, NOW).await.unwrap();
        assert_eq!(joined.enrolled.endpoint, there.endpoint);
        let fresh = rig.enrol_at(&with_machine("b", None), NOW).await.unwrap();
        // A copy of the first has an endpoint of its own.
        let copy = rig.enrol_at(&with_machine("c", joins.enrol.machine), NOW).await.unwrap();
        let snapshot = directory(rig.catalog()).await.snapshot();
        let members: Vec<_> = snapshot.label(ORG, "mine").unwrap().members.iter().collect();
        assert_eq!(members, [fresh.enrolled.endpoint.0, copy.enrolled.endpoint.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_bound_to_its_environment_and_its_certificate() {
    for rig in Rig::all().await {
        let node = rig.node("host-1", "a");
        let named = |name: &str| EnrolNode { environment: Some(name.into()), ..node.clone() };
        assert!(rig.enrol_at(&named("Berlin"), NOW).await.is_ok());
        let elsewhere = rig.enrol_at(&named("paris"), NOW).await;
        assert!(matches!(elsewhere, Err(EnrolError::Secret)));

        let new = NewSecret { client_certificate: true, ..NewSecret::default() };
        let (_, secret) = create_secret(rig.catalog(), ORG, &new, "ana", NOW).await.unwrap();
        let mut strict = rig.node("host-2", "b");
        strict.enrol.secret = Some(secret);
        assert!(matches!(rig.enrol_at(&strict, NOW).await, Err(EnrolError::Certificate)));
        strict.has_certificate = true;
        assert!(rig.enrol_at(&strict, NOW).await.unwrap().key.with_certificate);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_and_deleted_agents() {
    for rig in Rig::all().await {
        let directory = directory(rig.catalog()).await;
        let keys = NodeKeys::new(KeyRing::fixed([1; 32]), directory.clone());
        let node = rig.node("host-1", "a");
        let first = rig.enrol_at(&node, NOW).await.unwrap();
        let key = keys.issue(&first.key);
        set_agent_blocked(rig.catalog(), ORG, AgentNo(1), true).await.unwrap();
        directory.refresh().await.unwrap();
        assert_eq!(keys.judge(&key, NOW).map(|n| n.agent), Err(Rejected::Blocked));
        assert!(matches!(rig.enrol_at(&node, NOW).await, Err(EnrolError::Blocked(AgentNo(1)))));
        set_agent_blocked(rig.catalog(), ORG, AgentNo(1), false).await.unwrap();
        delete_endpoint(rig.catalog(), ORG, first.enrolled.endpoint, NOW).await.unwrap();
        directory.refresh().await.unwrap();
        assert_eq!(keys.judge(&key, NOW).map(|n| n.agent), Err(Rejected::Invalid));
        let anew = rig.enrol_at(&node, NOW).await.unwrap();
        assert_eq!((anew.enrolled.agent, anew.enrolled.is_new), (AgentNo(2), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ring_rotates_and_a_retired_key_runs_out_over_an_hour() {
    for rig in Rig::all().await {
        let clock = std::sync::Arc::new(TestClock::new(NOW));
        let seal = std::sync::Arc::new(muster_cluster::secrets::Key::new(&[9; 32]));
        let open = || KeyRing::open(rig.catalog().clone(), seal.clone(), clock.clone());
        let ring = open().await.unwrap();
        let keys = NodeKeys::new(ring.clone(), directory(rig.catalog()).await);
        let first = rig.enrol_at(&rig.node("host-1", "a"), NOW).await.unwrap();
        let old = keys.issue(&first.key);
        let id = rotate_keys(rig.catalog(), &seal, NOW).await.unwrap();
        assert_eq!(id, 2);
        // Another instance has read it already; this one has not, and says nothing bad of it.
        clock.advance(Duration::from_secs(60));
        let new = first.key.sign(&open().await.unwrap());
        assert_ne!(new, old);
        ring.refresh().await.unwrap();
        for key in [&old, &new] {
            assert_eq!(keys.judge(key, NOW).map(|n| n.agent), Ok(AgentNo(1)));
        }
        assert_eq!(keys.issue(&first.key), new, "the newest signs, once all know it");
        assert!(retire_key(rig.catalog(), &seal, 1, after(60)).await.unwrap());
        assert!(!retire_key(rig.catalog(), &seal, 2, after(60)).await.unwrap(), "one stays");
        ring.refresh().await.unwrap();
        assert_eq!(keys.judge(&old, NOW).map(|n| n.agent), Ok(AgentNo(1)), "its time comes");
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(keys.judge(&old, NOW).map(|n| n.agent), Err(Rejected::Invalid));
        assert_eq!(keys.judge(&new, NOW).map(|n| n.agent), Ok(AgentNo(1)));
        let listed = list_keys(rig.catalog(), &seal).await.unwrap();
        let retired: Vec<_> = listed.iter().map(|key| (key.id, key.retired_at.is_some())).collect();
        assert_eq!(retired, [(1, true), (2, false)]);
    }
}
