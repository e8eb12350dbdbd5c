//! Several instances on one catalog and one bus: who reads the catalog, and what lost, repeated and
//! overtaking hints do.

#[expect(dead_code, reason = "shared with the tests of one instance, which use more of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{fleet, hunt};
use futures_util::FutureExt as _;
use muster_bus::local::LocalBus;
use muster_bus::{Bus, Hint, Subscription, Topic};
use muster_catalog::{Catalog, Options};
use muster_cluster::Held;
use muster_endpoints::{Directory, Presence};
use muster_hunts::{Dispatcher, HuntKind, Hunts, Limits};
use muster_stream::memory::MemoryStream;
use muster_testkit::TempCatalog;
use muster_types::{AgentNo, Epoch, HuntNo, InstanceId, SystemClock};
use rand::seq::SliceRandom;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// An instance with a connection of its own to the catalog.
struct Instance {
    catalog: Catalog,
    presence: Presence,
    hunts: Hunts,
    stop: CancellationToken,
}

impl Instance {
    async fn start(temp: &TempCatalog, bus: Arc<dyn Bus>, number: u128) -> Self {
        let catalog = Catalog::open(&temp.url, Options::default()).await.unwrap();
        let clock = Arc::new(SystemClock);
        let directory = Directory::open(catalog.clone(), bus.clone()).await.unwrap();
        let presence = Presence::new(InstanceId(uuid::Uuid::from_u128(number)), clock.clone());
        let opened = Hunts::open(catalog.clone(), bus, directory, presence.clone(), clock).await;
        let (hunts, stop) = (opened.unwrap(), CancellationToken::new());
        let (follower, token) = (hunts.clone(), stop.clone());
        tokio::spawn(async move { follower.run(token).await });
        Self { catalog, presence, hunts, stop }
    }

    /// A dispatcher of every partition.
    fn dispatch(&self) {
        let epochs = (0..16).map(|partition| (partition, Epoch(1))).collect();
        let valid_until = tokio::time::Instant::now() + Duration::from_secs(600);
        let (_, leases) = watch::channel(Held { epochs, valid_until });
        let stream = Arc::new(MemoryStream::new());
        let dispatcher = Dispatcher::new(self.hunts.clone(), stream, leases);
        tokio::spawn(dispatcher.run(self.stop.clone()));
    }

    async fn works(&self, no: HuntNo, agent: u32) -> Duration {
        let began = Instant::now();
        while self.hunts.knows_recruited(no, AgentNo(agent)) != Some(true) {
            assert!(began.elapsed() < Duration::from_secs(10), "hunt {no}: {agent}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        began.elapsed()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn at_once() -> Limits {
    Limits { rate_per_second: 20_000, canary: 0, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_is_read_from_the_catalog_by_nobody() {
    let temp = TempCatalog::postgres().await.unwrap();
    fleet(&temp.catalog, 100).await;
    let bus = LocalBus::new(1_024);
    let asker = Instance::start(&temp, bus.clone(), 1).await;
    let dispatcher = Instance::start(&temp, bus.clone(), 2).await;
    let holder = Instance::start(&temp, bus.clone(), 3).await;
    for instance in [&asker, &dispatcher, &holder] {
        (1..=100).for_each(|agent| instance.presence.connected(AgentNo(agent)));
    }
    dispatcher.dispatch();
    let (began, before) = (Instant::now(), holder.catalog.calls());
    const HUNTS: u32 = 40;
    for round in 0..HUNTS {
        // Questions bring their first wave with them; hunts are recruited by the dispatcher.
        let kind = if round % 2 == 0 { HuntKind::Live } else { HuntKind::Hunt };
        let no = asker.hunts.create(&hunt(kind, at_once())).await.unwrap();
        holder.works(no, 100).await;
    }
    let (took, calls) = (began.elapsed(), holder.catalog.calls() - before);
    println!("{HUNTS} waves in {took:?}: {calls} calls of the catalog by who only hands them out");
    // It looks at the feeds' numbers each second, whatever happens; a look may meet a change that
    // was committed and not heard of yet, and reads it.
    assert!(calls <= 5 * (took.as_secs() + 2), "{calls} calls in {took:?}");
}

/// Loses hints while it is told to.
struct Lossy {
    inner: Arc<LocalBus>,
    loses: AtomicBool,
}

impl Bus for Lossy {
    fn publish(&self, topic: Topic, content: Bytes) {
        if !self.loses.load(Ordering::Relaxed) {
            self.inner.publish(topic, content);
        }
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        self.inner.subscribe(topics)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_hints_are_made_up_for_within_five_seconds() {
    let temp = TempCatalog::postgres().await.unwrap();
    fleet(&temp.catalog, 10).await;
    let bus = Arc::new(Lossy { inner: LocalBus::new(64), loses: AtomicBool::new(true) });
    let asker = Instance::start(&temp, bus.clone(), 1).await;
    let holder = Instance::start(&temp, bus.clone(), 2).await;
    asker.presence.connected(AgentNo(3));
    let no = asker.hunts.create(&hunt(HuntKind::Live, at_once())).await.unwrap();
    let took = holder.works(no, 3).await;
    println!("without the hint it took {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // The next hint is of no use by itself: it is ahead of what was read.
    let lost = asker.hunts.create(&hunt(HuntKind::Live, at_once())).await.unwrap();
    bus.loses.store(false, Ordering::Relaxed);
    let heard = asker.hunts.create(&hunt(HuntKind::Live, at_once())).await.unwrap();
    for no in [lost, heard] {
        let took = holder.works(no, 3).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_in_any_order_and_more_than_once_come_to_the_same() {
    let temp = TempCatalog::postgres().await.unwrap();
    fleet(&temp.catalog, 200).await;
    let (here, there) = (LocalBus::new(1_024), LocalBus::new(1_024));
    let asker = Instance::start(&temp, here.clone(), 1).await;
    asker.dispatch();
    let mut heard = here.subscribe(&[Topic::Hunts]);
    let follower = Instance::start(&temp, there.clone(), 2).await;
    let mut hunts = Vec::new();
    for round in 0..20u32 {
        (1..=200)
            .filter(|agent| agent % 20 == round)
            .for_each(|agent| asker.presence.connected(AgentNo(agent)));
        hunts.push(asker.hunts.create(&hunt(HuntKind::Hunt, at_once())).await.unwrap());
    }
    for no in &hunts {
        asker.works(*no, 200).await;
    }
    let recruited = |instance: &Instance| {
        let of = |no: &HuntNo| {
            let agents = (1..=200).map(AgentNo);
            agents.filter(|agent| instance.hunts.knows_recruited(*no, *agent) == Some(true)).count()
        };
        hunts.iter().map(of).collect::<Vec<_>>()
    };
    let all = vec![200; hunts.len()];
    let is_known_to = async |instance: &Instance| {
        let began = Instant::now();
        while recruited(instance) != all {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", recruited(instance));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Then all hints are out: they are published before they are taken in.
    is_known_to(&asker).await;
    let mut hints = Vec::new();
    while let Some(Some(Hint::Message(topic, content))) = heard.next().now_or_never() {
        hints.push((topic, content));
    }
    assert!(hints.len() >= 40, "{} hints", hints.len());
    hints.extend_from_within(..hints.len() / 2);
    hints.shuffle(&mut rand::rng());
    for (topic, content) in hints {
        there.publish(topic, content);
    }
    is_known_to(&follower).await;
}
