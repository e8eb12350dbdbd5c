//! Times, counts and the end.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_gateway::Refusal;
use muster_gateway::listener::ListenerOptions;

use crate::rig::{BUDGET, Rig, options, post, until};

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_stalled_request_ends_in_its_time() {
    let rig = Rig::with(ListenerOptions { request_timeout: SHORT, ..options() }, LOOPBACK).await;
    for begun in [
        "POST /agent/read HTTP/1.1\r\nHos",
        "POST /agent/read HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345",
        "POST /healthz HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345",
        "POST /agent/read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12",
    ] {
        let mut agent = rig.connect().await;
        agent.send(begun).await;
        let got = agent.answer().await;
        // The router answers some without looking at the body, and then ends as well.
        assert!(got.is_none_or(|got| [408, 405].contains(&got.status)), "{begun}");
        assert!(agent.answer().await.is_none());
    }
    assert_eq!(rig.metrics.requests_late.get(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_stays() {
    let idle_timeout = SHORT * 10;
    let rig = Rig::with(ListenerOptions { idle_timeout, ..options() }, LOOPBACK).await;
    let (mut idle, mut busy) = (rig.connect().await, rig.connect().await);
    idle.ask(&post("/agent/read", "", "")).await;
    for _ in 0..25 {
        busy.ask(&post("/agent/read", "", "")).await;
        tokio::time::sleep(idle_timeout / 10).await;
    }
    assert!(idle.answer().await.is_none());
    busy.ask(&post("/agent/read", "", "")).await;
    rig.stop().await;
}

#[tokio::test]
async fn large_bodies_are_refused_when_the_budget_has_no_room() {
    let rig = Rig::start().await;
    let all = rig.budget.try_take(BUDGET as usize).unwrap();
    // The server says go on only once it has the bytes.
    let head = "POST /agent/budget HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut agent = rig.connect().await;
    let refused = agent.ask(head).await;
    assert_eq!((refused.status, refused.body.as_str()), (503, "{\"error\":\"busy\"}"));
    // A chunked body may be as long.
    let chunked = "POST /agent/stranger HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\n12345\r\n0\r\n\r\n";
    let refused = rig.connect().await.ask(chunked).await;
    assert_eq!((refused.status, refused.body.as_str()), (503, "{\"error\":\"busy\"}"));
    drop(all);
    let got = rig.connect().await.ask(chunked).await;
    assert!(got.body.contains("\"len\":5") && got.body.contains("\"permit\":true"), "{}", got.body);
    let mut agent = rig.connect().await;
    assert_eq!(agent.ask(head).await.status, 100);
    assert_eq!(rig.budget.used(), 5);
    let got = agent.ask("12345").await;
    assert!(got.body.contains("\"len\":5") && got.body.contains("\"permit\":true"), "{}", got.body);
    until("it comes back", || rig.budget.used() == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn at_the_end_idle_connections_end_and_answers_under_way_arrive() {
    let rig = Rig::start().await;
    let (mut idle, mut waiting) = (rig.connect().await, rig.connect().await);
    idle.ask(&post("/agent/read", "", "")).await;
    waiting.send(&post("/agent/later", "", "")).await;
    until("both are served", || rig.calls.load(Ordering::SeqCst) == 2).await;
    rig.shutdown.cancel();
    assert!(idle.answer().await.is_none());
    rig.gate.add_permits(1);
    let last = waiting.answer().await.expect("the answer");
    assert!(last.head.contains("connection: close"), "{}", last.head);
    assert!(waiting.answer().await.is_none());
    rig.stop().await;
}

/// Loopback is exempt from bounds per address, so their tests need an address of the machine that is
/// not; there may be none.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let outward = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let address = outward.ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test]
async fn one_address_opens_so_many_at_a_time() {
    let Some(address) = outward() else { return };
    let rig = Rig::with(ListenerOptions { handshakes_max: 16, ..options() }, address).await;
    let (mut first, _second) = (rig.connect().await, rig.connect().await);
    assert!(rig.try_connect().await.is_err(), "two are silent");
    assert_eq!(rig.metrics.refusals(Refusal::ConnectionsOfSource), 1);
    first.ask(&post("/agent/read", "", "")).await;
    rig.connect().await;
    rig.stop().await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let Some(address) = outward() else { return };
    let few = ListenerOptions { connections_per_source_max: Some(2), ..options() };
    let rig = Rig::with(few, address).await;
    let (mut first, _second) = (rig.connect().await, rig.connect().await);
    first.ask(&post("/agent/read", "", "")).await;
    assert!(rig.try_connect().await.is_err(), "a third");
    assert_eq!(rig.metrics.refusals(Refusal::ConnectionsOfSource), 1);
    drop(first);
    until("its place is free", || rig.metrics.connections_open.get() == 1).await;
    rig.connect().await;
    rig.stop().await;
}

#[tokio::test]
async fn a_machine_has_as_many_as_there_may_be() {
    let few =
        ListenerOptions { connections_max: 3, connections_per_source_max: Some(1), ..options() };
    let rig = Rig::with(few, LOOPBACK).await;
    let mut agents = Vec::new();
    for _ in 0..3 {
        agents.push(rig.connect().await);
    }
    let held_back = || rig.metrics.refusals(Refusal::Connections) == 1;
    until("nobody is accepted any more", held_back).await;
    {
        let mut waiting = std::pin::pin!(rig.try_connect());
        let soon = tokio::time::timeout(std::time::Duration::from_millis(100), &mut waiting);
        assert!(soon.await.is_err(), "it is not closed, and waits");
        agents.pop();
        waiting.await.expect("its turn has come");
    }
    rig.stop().await;
}
