//! The test kit's NATS servers start, elect, die and come back.

use muster_testkit::{Nats, NatsOptions};

#[test]
fn one_server_is_killed_and_comes_back_at_the_same_place() {
    let mut nats = Nats::start().unwrap();
    let url = nats.url();
    assert!(nats.monitor(0, "/jsz?config=1").unwrap().contains("\"sync_always\": true"));
    let first = nats.pid(0).unwrap();
    nats.kill(0).unwrap();
    assert_eq!(nats.pid(0), None);
    assert!(nats.monitor(0, "/varz").is_err());
    nats.restart(0).unwrap();
    nats.wait_ready().unwrap();
    assert_eq!(nats.url(), url);
    assert_ne!(nats.pid(0), Some(first));
    nats.pause(0).unwrap();
    nats.resume(0).unwrap();
    nats.stop(0).unwrap();
}

#[test]
fn a_cluster_has_a_leader() {
    let nats = Nats::cluster().unwrap();
    assert_eq!(nats.node_count(), 3);
    let answer = nats.monitor(1, "/jsz").unwrap();
    assert!(answer.contains("\"cluster_size\": 3"), "{answer}");
}

#[test]
fn what_is_asked_for_is_set() {
    let options = NatsOptions { jetstream: false, ..NatsOptions::default() };
    let nats = Nats::with(&options).unwrap();
    assert!(!nats.monitor(0, "/varz").unwrap().contains("store_dir"));
}
