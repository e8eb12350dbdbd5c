//! The bus on a real NATS server keeps the contract, and says what it lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use muster_bus::nats::{HintKey, NatsBus};
use muster_bus::{Bus, Hint, Subscription, Topic, conformance};
use muster_nats::Options;
use muster_testkit::Nats;
use muster_types::HuntNo;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

async fn bus(url: &str, prefix: &str) -> Arc<NatsBus> {
    let options = Options::new(url, "test");
    NatsBus::open(options, prefix, key(), 64).await.unwrap()
}

fn key() -> HintKey {
    HintKey::new(&[7; 32])
}

/// What one instance publishes, as another hears it.
struct Pair(Arc<NatsBus>, Arc<NatsBus>);

impl Bus for Pair {
    fn publish(&self, topic: Topic, content: Bytes) {
        self.0.publish(topic, content);
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        self.1.subscribe(topics)
    }
}

async fn next(listener: &mut Box<dyn Subscription>) -> Hint {
    timeout(DEADLINE, listener.next()).await.expect("a hint in time").expect("the bus lives")
}

#[tokio::test]
async fn keeps_the_contract_within_an_instance_and_between_two() {
    let nats = Nats::start().unwrap();
    let url = nats.url();
    conformance::all(async || bus(&url, "one").await as Arc<dyn Bus>, 64).await;
    let pair = async || {
        let (a, b) = (bus(&url, "two").await, bus(&url, "two").await);
        Arc::new(Pair(a, b)) as Arc<dyn Bus>
    };
    conformance::all(pair, 64).await;
}

#[tokio::test]
async fn only_who_listens_to_a_topic_receives_it() {
    let nats = Nats::start().unwrap();
    let (a, b) = (bus(&nats.url(), "m").await, bus(&nats.url(), "m").await);
    let listening: Arc<dyn Bus> = Arc::new(Pair(a.clone(), b.clone()));
    let mut listener = conformance::ready(&listening, &[Topic::Live(HuntNo(7))]).await;
    let before = b.counters().received.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..50 {
        a.publish(Topic::Live(HuntNo(8)), Bytes::from_static(b"rows nobody watches here"));
    }
    a.publish(Topic::Live(HuntNo(7)), Bytes::from_static(b"row"));
    let row = Hint::Message(Topic::Live(HuntNo(7)), Bytes::from_static(b"row"));
    assert_eq!(next(&mut listener).await, row);
    let after = b.counters().received.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(after - before, 1);
    // And other installations on the same servers are not disturbed.
    let other = bus(&nats.url(), "other").await;
    other.publish(Topic::Live(HuntNo(7)), Bytes::from_static(b"not ours"));
    a.publish(Topic::Live(HuntNo(7)), Bytes::from_static(b"ours"));
    let ours = Hint::Message(Topic::Live(HuntNo(7)), Bytes::from_static(b"ours"));
    assert_eq!(next(&mut listener).await, ours);
}

#[tokio::test]
async fn a_server_that_was_away_is_a_gap_for_everybody() {
    let mut nats = Nats::start().unwrap();
    let (a, b) = (bus(&nats.url(), "m").await, bus(&nats.url(), "m").await);
    let listening: Arc<dyn Bus> = Arc::new(Pair(a.clone(), b.clone()));
    let mut far = conformance::ready(&listening, &[Topic::Hunts]).await;
    let within: Arc<dyn Bus> = a.clone();
    let mut near = conformance::ready(&within, &[Topic::Hunts]).await;
    nats.kill(0).unwrap();
    let mut status = a.connection().status();
    status.wait_for(|status| !status.connected).await.unwrap();
    a.publish(Topic::Hunts, Bytes::from_static(b"while away"));
    let away = Hint::Message(Topic::Hunts, Bytes::from_static(b"while away"));
    assert_eq!(next(&mut near).await, away, "an instance hears itself");
    nats.restart(0).unwrap();
    for listener in [&mut near, &mut far] {
        assert_eq!(next(listener).await, Hint::Gap);
    }
    let dropped = a.counters().dropped.load(std::sync::atomic::Ordering::Relaxed);
    assert!(dropped >= 1);
    // The first that is heard again shows that the subscriptions are back.
    let mut again = conformance::ready(&listening, &[Topic::Hunts]).await;
    a.publish(Topic::Hunts, Bytes::from_static(b"back"));
    let back = Hint::Message(Topic::Hunts, Bytes::from_static(b"back"));
    loop {
        match next(&mut again).await {
            // The publisher's word that it had lost something.
            Hint::Gap => a.publish(Topic::Hunts, Bytes::from_static(b"back")),
            hint => break assert_eq!(hint, back),
        }
    }
}

#[tokio::test]
async fn without_a_server_it_begins_and_finds_one_later() {
    let mut nats = Nats::start().unwrap();
    nats.kill(0).unwrap();
    let mut options = Options::new(nats.url(), "test");
    options.first_wait = Duration::from_millis(100);
    let alone = NatsBus::open(options, "m", key(), 64).await.unwrap();
    let mut listener = alone.subscribe(&[Topic::Hunts]);
    nats.restart(0).unwrap();
    let mut status = alone.connection().status();
    timeout(DEADLINE, status.wait_for(|status| status.connected)).await.unwrap().unwrap();
    assert_eq!(next(&mut listener).await, Hint::Gap);
    let other = bus(&nats.url(), "m").await;
    let listening: Arc<dyn Bus> = Arc::new(Pair(other.clone(), alone.clone()));
    let mut listener = conformance::ready(&listening, &[Topic::Access]).await;
    other.publish(Topic::Access, Bytes::from_static(b"x"));
    assert_eq!(next(&mut listener).await, Hint::Message(Topic::Access, Bytes::from_static(b"x")));
}

/// Whoever reaches the servers may say that there is something new, and nothing of what it is.
#[tokio::test]
async fn what_no_instance_sealed_is_an_empty_hint() {
    let nats = Nats::start().unwrap();
    let (a, b) = (bus(&nats.url(), "m").await, bus(&nats.url(), "m").await);
    let listening: Arc<dyn Bus> = Arc::new(Pair(a.clone(), b.clone()));
    let mut listener = conformance::ready(&listening, &[Topic::Hunts, Topic::Watch]).await;
    let stranger = muster_nats::connect(&Options::new(nats.url(), "stranger")).await.unwrap();
    let stranger = stranger.client();
    let mut overheard = stranger.subscribe("m.b.t.hunts").await.unwrap();
    // A server takes what one connection says in order: once the stranger hears itself, it hears all.
    let mut echo = stranger.subscribe("stranger").await.unwrap();
    stranger.publish("stranger", Bytes::new()).await.unwrap();
    timeout(DEADLINE, echo.next()).await.unwrap().unwrap();
    let true_hint = Hint::Message(Topic::Hunts, Bytes::from_static(b"change 7"));
    a.publish(Topic::Hunts, Bytes::from_static(b"change 7"));
    assert_eq!(next(&mut listener).await, true_hint);
    let sealed = timeout(DEADLINE, overheard.next()).await.unwrap().unwrap().payload;

    let mut forged = sealed.to_vec();
    *forged.last_mut().unwrap() = b'8';
    let another_key =
        NatsBus::open(Options::new(nats.url(), "other"), "m", HintKey::new(&[8; 32]), 64);
    let another_key = another_key.await.unwrap();
    another_key.publish(Topic::Hunts, Bytes::from_static(b"change 8"));
    assert_eq!(next(&mut listener).await, Hint::Message(Topic::Hunts, Bytes::new()));
    // As instances before this version wrote it, changed on the way, and said about something else.
    for (subject, message) in [
        ("m.b.t.hunts", Bytes::from_static(b"\x01change 8")),
        ("m.b.t.hunts", forged.into()),
        ("m.b.t.watch", sealed.clone()),
    ] {
        let topic = if subject == "m.b.t.watch" { Topic::Watch } else { Topic::Hunts };
        stranger.publish(subject, message).await.unwrap();
        assert_eq!(next(&mut listener).await, Hint::Message(topic, Bytes::new()), "{subject}");
    }
    assert_eq!(b.counters().unsealed.load(std::sync::atomic::Ordering::Relaxed), 4);
    // It takes nothing from those who are believed.
    a.publish(Topic::Hunts, Bytes::from_static(b"change 7"));
    assert_eq!(next(&mut listener).await, true_hint);
}

#[tokio::test]
async fn the_last_hints_of_one_that_ends_are_heard() {
    let nats = Nats::start().unwrap();
    let (a, b) = (bus(&nats.url(), "m").await, bus(&nats.url(), "m").await);
    let listening: Arc<dyn Bus> = Arc::new(Pair(a, b));
    let mut listener = conformance::ready(&listening, &[Topic::Cluster]).await;
    for round in 0..20_u8 {
        let url = nats.url();
        // A runtime that is gone a moment later, with all that it had not sent.
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                let bus = bus(&url, "m").await;
                for n in 0..50_u8 {
                    bus.publish(Topic::Cluster, Bytes::copy_from_slice(&[round, n]));
                }
                bus.flush(DEADLINE).await;
            });
            runtime.shutdown_background();
        });
        for n in 0..50_u8 {
            let heard = next(&mut listener).await;
            let said = Bytes::copy_from_slice(&[round, n]);
            assert_eq!(heard, Hint::Message(Topic::Cluster, said));
        }
        ending.join().unwrap();
    }
    // Without a server nobody waits.
    let mut nats = nats;
    let lonely = bus(&nats.url(), "m").await;
    nats.kill(0).unwrap();
    lonely.connection().status().wait_for(|status| !status.connected).await.unwrap();
    lonely.publish(Topic::Cluster, Bytes::new());
    timeout(Duration::from_secs(1), lonely.flush(DEADLINE)).await.expect("nothing to wait for");
}
