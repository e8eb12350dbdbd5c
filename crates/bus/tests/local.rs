//! The embedded bus keeps the contract, and leaves nothing behind.

use std::sync::Arc;

use bytes::Bytes;
use muster_bus::local::LocalBus;
use muster_bus::{Bus, Topic, conformance};
use muster_types::HuntNo;

#[tokio::test]
async fn keeps_the_contract() {
    conformance::all(async || LocalBus::new(64) as Arc<dyn Bus>, 64).await;
}

#[tokio::test]
async fn dropped_subscribers_leave_nothing_behind() {
    let bus = LocalBus::new(4);
    for hunt in 0..1000 {
        let listener = bus.subscribe(&[Topic::Live(HuntNo(hunt)), Topic::Hunts]);
        assert_eq!(bus.listener_count(), 2);
        bus.publish(Topic::Hunts, Bytes::new());
        drop(listener);
        assert_eq!(bus.listener_count(), 0);
    }
}

#[tokio::test]
async fn subscriptions_end_with_the_bus() {
    let bus = LocalBus::new(4);
    let mut listener = bus.subscribe(&[Topic::Hunts]);
    drop(bus);
    assert_eq!(listener.next().await, None);
}
