//! Scopes, access and presence.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{NOW, directory, native};
use muster_bus::local::LocalBus;
use muster_endpoints::{Presence, ScopeError, Snapshot, add_members, create_label, enrol};
use muster_testkit::TempCatalog;
use muster_types::{AgentNo, EndpointNo, InstanceId, OrgId, ScopeSpec, TestClock};
use tokio_util::sync::CancellationToken;

const ORG: OrgId = OrgId::DEFAULT;

/// Presence of an instance, with its clock.
fn presence(n: u128) -> (Presence, Arc<TestClock>) {
    let clock = Arc::new(TestClock::new(NOW));
    (Presence::new(InstanceId(uuid::Uuid::from_u128(n)), clock.clone()), clock)
}

async fn five() -> (TempCatalog, Arc<Snapshot>) {
    let temp = TempCatalog::sqlite().await.unwrap();
    for n in 1..=5 {
        enrol(&temp.catalog, &native(n), NOW).await.unwrap();
    }
    for (label, members) in [("prod", &[1, 2, 3][..]), ("db", &[3, 4])] {
        create_label(&temp.catalog, ORG, label, "", "ana", NOW).await.unwrap();
        let members: Vec<_> = members.iter().copied().map(EndpointNo).collect();
        add_members(&temp.catalog, ORG, label, &members, "ana", NOW).await.unwrap();
    }
    let snapshot = directory(&temp.catalog).await.snapshot();
    (temp, snapshot)
}

fn resolve(snapshot: &Snapshot, presence: &Presence, spec: &ScopeSpec) -> Vec<u32> {
    snapshot.resolve(ORG, spec, presence).unwrap().endpoints.iter().collect()
}

#[tokio::test]
async fn parts_of_a_scope_all_hold() {
    let (_temp, snapshot) = five().await;
    let (presence, _clock) = presence(1);
    presence.connected(AgentNo(2));
    let spec = |json: &str| serde_json::from_str::<ScopeSpec>(json).unwrap();
    for (json, expected) in [
        ("{}", vec![1, 2, 3, 4, 5]),
        (r#"{"endpoints": [5, 2]}"#, vec![2, 5]),
        (r#"{"labels": ["prod", "db"]}"#, vec![1, 2, 3, 4]),
        (r#"{"labels": ["prod"], "exclude_labels": ["db"]}"#, vec![1, 2]),
        (r#"{"labels": ["prod"], "online": true}"#, vec![2]),
        (r#"{"condition": "label = 'db' OR hostname = 'host-5'"}"#, vec![3, 4, 5]),
        (r#"{"condition": "os_version = '13' AND NOT online AND endpoint < 4"}"#, vec![1, 3]),
        (r#"{"condition": "last_seen < now() - interval '1 minute'"}"#, vec![]),
    ] {
        assert_eq!(resolve(&snapshot, &presence, &spec(json)), expected, "{json}");
    }
    let other = snapshot.resolve(OrgId(2), &ScopeSpec::all(), &presence).unwrap();
    assert!(other.endpoints.is_empty());
}

#[tokio::test]
async fn what_a_person_got_wrong_is_said() {
    let (_temp, snapshot) = five().await;
    let (presence, _clock) = presence(1);
    let fails = |spec: ScopeSpec| snapshot.resolve(ORG, &spec, &presence).unwrap_err();
    let error = fails(ScopeSpec { labels: vec!["prd".into()], ..ScopeSpec::all() });
    assert_eq!(error.to_string(), "no label \"prd\"; did you mean \"prod\"?");
    let error = fails(ScopeSpec::of(vec![EndpointNo(9)]));
    assert_eq!(error, ScopeError::UnknownEndpoint(EndpointNo(9)));
    let error = fails(ScopeSpec { condition: Some("hostnam = 'x'".into()), ..ScopeSpec::all() });
    let expected = "condition, character 1: no column \"hostnam\"; did you mean hostname?";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn access_is_the_union_of_granted_scopes() {
    let (_temp, snapshot) = five().await;
    let (presence, _clock) = presence(1);
    let label = |name: &str| ScopeSpec { labels: vec![name.into()], ..ScopeSpec::all() };
    let access = snapshot.access(ORG, &[label("db"), label("gone")], &presence);
    let seen: Vec<_> = access.agents.as_ref().unwrap().iter().map(|agent| agent.0).collect();
    assert_eq!(seen, [3, 4]);
    assert!(snapshot.allows(&access, snapshot.endpoint(EndpointNo(4)).unwrap()));
    assert!(!snapshot.allows(&access, snapshot.endpoint(EndpointNo(1)).unwrap()));
    assert!(snapshot.access(ORG, &[], &presence).agents.unwrap().is_empty());
    assert_eq!(snapshot.access(ORG, &[label("db"), ScopeSpec::all()], &presence).agents, None);
}

#[tokio::test]
async fn links_are_counted_and_polls_stay_fresh_for_a_while() {
    let (presence, clock) = presence(1);
    let (linked, polling) = (AgentNo(1), AgentNo(2));
    let mut arrivals = presence.arrivals();
    presence.connected(linked);
    presence.connected(linked);
    presence.touch(polling, NOW);
    assert!(arrivals.has_changed().unwrap());
    arrivals.mark_unchanged();
    presence.disconnected(linked);
    assert!(presence.is_online(linked) && presence.is_online(polling));
    presence.disconnected(linked);
    assert!(!presence.is_online(linked));
    assert_eq!(presence.last_seen(linked), Some(NOW));
    presence.disconnected(linked);
    assert!(!arrivals.has_changed().unwrap());
    clock.advance(Duration::from_secs(91));
    assert!(!presence.is_online(polling));
    presence.connected(linked);
    assert!(presence.is_online(linked));
}

#[tokio::test]
async fn instances_tell_each_other_by_hints_and_by_blocks() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let bus = LocalBus::new(1_024);
    let shutdown = CancellationToken::new();
    let (one, _) = presence(1);
    let (two, _) = presence(2);
    let run = |presence: &Presence, stop: &CancellationToken| {
        let (presence, catalog, bus) = (presence.clone(), temp.catalog.clone(), bus.clone());
        let stop = stop.clone();
        tokio::spawn(async move { presence.run(catalog, bus, stop).await })
    };
    let (first, second) = (run(&one, &shutdown), run(&two, &shutdown));
    // Both listen: the runtime is single-threaded, so they have started once we are back here.
    tokio::task::yield_now().await;
    let agent = AgentNo(70);
    let mut arrivals = two.arrivals();
    one.connected(agent);
    wait(async || arrivals.has_changed().unwrap() && two.is_online(agent)).await;
    arrivals.mark_unchanged();
    assert!(!two.is_connected_here(agent));
    one.disconnected(agent);
    wait(async || !two.is_online(agent)).await;
    one.connected(agent);
    shutdown.cancel();
    first.await.unwrap();
    second.await.unwrap();

    // A third that starts later finds it in the blocks that were written at the end.
    let (three, _) = presence(3);
    three.load(&temp.catalog).await.unwrap();
    assert!(three.is_online(agent));
    assert_eq!(three.last_seen(agent), Some(NOW));
}

async fn wait(mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "it did not happen in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
