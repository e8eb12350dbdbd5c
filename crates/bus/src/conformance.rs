//! What every bus must do, as test functions. Each takes a bus of its own; they panic on a breach.
//!
//! A subscription may begin with a [`Hint::Gap`] where listening starts later than the call (a bus
//! behind a socket); [`ready`] waits for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_types::HuntNo;
use tokio::time::timeout;

use crate::{Bus, Hint, Subscription, Topic};

const DEADLINE: Duration = Duration::from_secs(10);

/// Runs everything on buses made by `make`, each with room for `capacity` hints per subscriber.
pub async fn all<F: AsyncFn() -> Arc<dyn Bus>>(make: F, capacity: usize) {
    delivers_in_order(make().await).await;
    filters_topics(make().await).await;
    reaches_every_subscriber(make().await).await;
    survives_cancelled_calls(make().await).await;
    gives_a_lagging_subscriber_a_gap(make().await, capacity).await;
}

/// One publisher's hints on one topic arrive in order.
pub async fn delivers_in_order(bus: Arc<dyn Bus>) {
    let mut listener = ready(&bus, &[Topic::Hunts]).await;
    for n in 0..10u8 {
        bus.publish(Topic::Hunts, Bytes::from(vec![n]));
    }
    for n in 0..10u8 {
        assert_eq!(next(&mut listener).await, Hint::Message(Topic::Hunts, Bytes::from(vec![n])));
    }
}

/// Only what was asked for arrives, once, even when asked for twice.
pub async fn filters_topics(bus: Arc<dyn Bus>) {
    let seven = Topic::Live(HuntNo(7));
    let mut listener = ready(&bus, &[seven.clone(), Topic::Access, seven.clone()]).await;
    bus.publish(Topic::Live(HuntNo(8)), Bytes::from_static(b"other hunt"));
    bus.publish(Topic::Hunts, Bytes::from_static(b"other topic"));
    bus.publish(seven.clone(), Bytes::from_static(b"row"));
    bus.publish(Topic::Access, Bytes::new());
    // Order is promised within a topic only.
    let expected = [
        Hint::Message(seven, Bytes::from_static(b"row")),
        Hint::Message(Topic::Access, Bytes::new()),
    ];
    let mut heard = [next(&mut listener).await, next(&mut listener).await];
    if heard[0] != expected[0] {
        heard.reverse();
    }
    assert_eq!(heard, expected);
}

/// Everybody who listens is told; who left is not in the way, nor is a topic nobody hears.
pub async fn reaches_every_subscriber(bus: Arc<dyn Bus>) {
    bus.publish(Topic::Inventory, Bytes::new());
    let mut first = ready(&bus, &[Topic::Cluster]).await;
    let mut second = ready(&bus, &[Topic::Cluster]).await;
    drop(ready(&bus, &[Topic::Cluster]).await);
    bus.publish(Topic::Cluster, Bytes::from_static(b"x"));
    for listener in [&mut first, &mut second] {
        let expected = Hint::Message(Topic::Cluster, Bytes::from_static(b"x"));
        assert_eq!(next(listener).await, expected);
    }
}

/// A dropped `next` loses nothing.
pub async fn survives_cancelled_calls(bus: Arc<dyn Bus>) {
    let mut listener = ready(&bus, &[Topic::Progress]).await;
    for n in 0..5u8 {
        // The first poll finds nothing; the call is dropped while it waits.
        let waiting = timeout(Duration::from_millis(1), listener.next()).await;
        assert!(waiting.is_err());
        bus.publish(Topic::Progress, Bytes::from(vec![n]));
        assert_eq!(next(&mut listener).await, Hint::Message(Topic::Progress, Bytes::from(vec![n])));
    }
}

/// Publishing never waits for a reader: it finds one gap and then newer hints.
pub async fn gives_a_lagging_subscriber_a_gap(bus: Arc<dyn Bus>, capacity: usize) {
    let mut slow = ready(&bus, &[Topic::Presence]).await;
    let mut fast = ready(&bus, &[Topic::Presence]).await;
    let mut other = ready(&bus, &[Topic::Watch]).await;
    for _ in 0..=capacity {
        bus.publish(Topic::Presence, Bytes::new());
    }
    let last = |topic| Hint::Message(topic, Bytes::from_static(b"last"));
    for topic in [Topic::Presence, Topic::Watch] {
        bus.publish(topic, Bytes::from_static(b"last"));
    }
    assert_eq!(next(&mut other).await, last(Topic::Watch), "the others are not disturbed");
    // What has reached one has reached all.
    while next(&mut fast).await != last(Topic::Presence) {}
    let mut gaps = 0;
    loop {
        match next(&mut slow).await {
            Hint::Gap => gaps += 1,
            hint if hint == last(Topic::Presence) => break,
            Hint::Message(..) => {}
        }
    }
    assert_eq!(gaps, 1);
}

/// Subscribes and waits until hints published from now on arrive, so that what a test publishes
/// next is not lost. It also listens to a topic of its own, on which it tries that out.
pub async fn ready(bus: &Arc<dyn Bus>, topics: &[Topic]) -> Box<dyn Subscription> {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    let probe = Topic::Live(HuntNo(NEXT.fetch_add(1, Ordering::Relaxed)));
    let mut listened = topics.to_vec();
    listened.push(probe.clone());
    let mut listener = bus.subscribe(&listened);
    let heard = async {
        loop {
            bus.publish(probe.clone(), Bytes::from_static(b"probe"));
            let hint = timeout(Duration::from_millis(50), listener.next()).await;
            if let Ok(Some(Hint::Message(..))) = hint {
                break;
            }
        }
    };
    timeout(DEADLINE, heard).await.expect("the subscription starts to listen");
    let last = Hint::Message(probe.clone(), Bytes::from_static(b"last probe"));
    bus.publish(probe.clone(), Bytes::from_static(b"last probe"));
    loop {
        match next(&mut listener).await {
            hint if hint == last => return listener,
            Hint::Message(topic, _) => assert_eq!(topic, probe, "nothing older is heard"),
            Hint::Gap => {}
        }
    }
}

async fn next(listener: &mut Box<dyn Subscription>) -> Hint {
    timeout(DEADLINE, listener.next()).await.expect("a hint in time").expect("the bus lives")
}
