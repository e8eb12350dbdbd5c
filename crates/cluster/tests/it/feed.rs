//! A cursor looks on a hint and on an interval, and never goes back.

use std::time::Duration;

use bytes::Bytes;
use muster_bus::local::LocalBus;
use muster_bus::{Bus, Hint, Topic};
use muster_cluster::FeedCursor;
use tokio::time::timeout;

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn due_at_once_and_on_hints() {
    let bus = LocalBus::new(4);
    let mut cursor = FeedCursor::new(&*bus, &[Topic::Hunts], Duration::from_secs(600));
    assert_eq!(timeout(SOON, cursor.due()).await, Ok(None), "the first look");
    assert!(timeout(NOW, cursor.due()).await.is_err(), "nothing happened");

    bus.publish(Topic::Directory, Bytes::new());
    assert!(timeout(NOW, cursor.due()).await.is_err(), "another topic");
    bus.publish(Topic::Hunts, Bytes::from_static(b"7"));
    let hint = Hint::Message(Topic::Hunts, Bytes::from_static(b"7"));
    assert_eq!(timeout(SOON, cursor.due()).await, Ok(Some(hint)));

    for _ in 0..20 {
        bus.publish(Topic::Hunts, Bytes::new());
    }
    assert_eq!(timeout(SOON, cursor.due()).await, Ok(Some(Hint::Gap)), "lost hints are told");
}

#[tokio::test]
async fn without_a_bus_there_is_the_interval() {
    let bus = LocalBus::new(4);
    let mut cursor = FeedCursor::new(&*bus, &[Topic::Hunts], Duration::from_millis(5));
    drop(bus);
    for _ in 0..4 {
        cursor.due().await;
    }
    cursor.advance(5);
    cursor.advance(3);
    assert_eq!(cursor.last(), 5);
}
