//! Who is online, as instances tell each other.

use std::sync::Arc;
use std::time::Duration;

use muster_bus::local::LocalBus;
use muster_bus::{Bus, Hint, Topic};
use muster_endpoints::Presence;
use muster_testkit::TempCatalog;
use muster_types::{AgentNo, InstanceId, SystemClock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Instance {
    presence: Presence,
    shutdown: CancellationToken,
}

async fn start(temp: &TempCatalog, bus: &Arc<LocalBus>, n: u128) -> Instance {
    let presence = Presence::new(InstanceId(Uuid::from_u128(n)), Arc::new(SystemClock));
    presence.load(&temp.catalog).await.unwrap();
    let shutdown = CancellationToken::new();
    let (running, catalog, bus) = (presence.clone(), temp.catalog.clone(), bus.clone());
    let stop = shutdown.clone();
    tokio::spawn(async move { running.run(catalog, bus, stop).await });
    Instance { presence, shutdown }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(12);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Blocks are written twice a minute; whoever starts in between asks.
#[tokio::test(flavor = "multi_thread")]
async fn who_starts_later_knows_at_once_who_has_just_come() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let bus = LocalBus::new(1_024);
    let first = start(&temp, &bus, 1).await;
    // Its first block is written; the next is half a minute away.
    first.presence.connected(AgentNo(1));
    let is_written = async || {
        let reader = Presence::new(InstanceId(Uuid::from_u128(9)), Arc::new(SystemClock));
        reader.load(&temp.catalog).await.unwrap();
        reader.is_online(AgentNo(1))
    };
    while !is_written().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let come: Vec<AgentNo> = (2..=5_000).map(AgentNo).collect();
    let mut hints = bus.subscribe(&[Topic::Presence]);
    for agent in &come {
        first.presence.connected(*agent);
    }
    // What is said of them is over before the other one listens.
    let mut told = 0;
    while told < come.len() {
        let Some(Hint::Message(_, content)) = hints.next().await else { panic!("a hint") };
        told += content.len() / 4 - 5;
    }
    let second = start(&temp, &bus, 2).await;
    until("all that are there to be known", || {
        come.iter().all(|agent| second.presence.is_online(*agent))
    })
    .await;
    assert!(come.iter().all(|agent| second.presence.is_elsewhere(*agent)));
    assert!(!come.iter().any(|agent| first.presence.is_elsewhere(*agent)));
    for instance in [first, second] {
        instance.shutdown.cancel();
    }
}

/// An agent has come here before the instance it was linked to knows that its link is dead.
#[tokio::test(flavor = "multi_thread")]
async fn who_moved_stays_online_although_its_old_link_ends_later() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let bus = LocalBus::new(1_024);
    let (old, new, third) =
        (start(&temp, &bus, 1).await, start(&temp, &bus, 2).await, start(&temp, &bus, 3).await);
    let agent = AgentNo(7);
    old.presence.connected(agent);
    until("it to be known", || {
        new.presence.is_elsewhere(agent) && third.presence.is_elsewhere(agent)
    })
    .await;
    new.presence.connected(agent);
    until("its move to be known", || old.presence.is_elsewhere(agent)).await;
    old.presence.disconnected(agent);
    // It is told that it left the one, and then that it is at the other.
    until("its leave to be known", || !new.presence.is_elsewhere(agent)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    until("it to be online", || third.presence.is_elsewhere(agent)).await;
    assert!(old.presence.is_online(agent));
    for instance in [old, new, third] {
        instance.shutdown.cancel();
    }
}
