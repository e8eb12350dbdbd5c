//! What stands in front: who is believed about whose connection it is, and who may leave TLS out.

use std::net::IpAddr;
use std::time::Duration;

use muster_gateway::Refusal;
use muster_gateway::listener::{Front, ListenerOptions, Proxies, TlsEnds};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{Client, DEADLINE, Rig, options, post, until};

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// The balancer's address; every other one of the machine is a stranger's.
const BALANCER: &str = "127.0.0.2";
const STRANGER: &str = "127.0.0.3";
const HEADER: &str = "PROXY TCP4 198.51.100.7 10.0.0.1 4711 8453\r\n";

fn networks(of: &[&str]) -> Proxies {
    Proxies::new(of.iter().map(|network| network.parse().unwrap()))
}

async fn behind(front: Front) -> Rig {
    Rig::with(ListenerOptions { front, ..options() }, LOOPBACK).await
}

fn by_header() -> Front {
    Front { proxy_protocol: networks(&["127.0.0.2/32"]), ..Front::default() }
}

/// Whom the server takes the client for.
async fn seen(client: &mut Client, fields: &str) -> String {
    let got = client.ask(&post("/agent/read", fields, "")).await;
    got.body.split("\"from\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// Says these bytes; whatever comes back, the server ends the connection.
async fn ends(mut tcp: TcpStream, bytes: &[u8]) {
    tcp.write_all(bytes).await.unwrap();
    let mut back = Vec::new();
    let end = tokio::time::timeout(DEADLINE, tcp.read_to_end(&mut back)).await;
    // With or without an alert of TLS, or a reset.
    let _ = end.expect("it is closed");
    assert!(!back.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&back));
}

#[tokio::test]
async fn a_balancer_names_the_client() {
    let rig = behind(by_header()).await;
    let four = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\0\x01\0\x02";
    for (header, client) in [(HEADER.as_bytes(), "198.51.100.7"), (four, "192.0.2.9")] {
        for piece in [1, 1000] {
            let mut tcp = rig.raw(BALANCER).await;
            for piece in header.chunks(piece) {
                tcp.write_all(piece).await.unwrap();
            }
            let mut connection = rig.encrypt(tcp).await.unwrap();
            assert_eq!(seen(&mut connection, "").await, client);
            // It is no proxy of ours, so what it says of others is nothing.
            let forged = "X-Forwarded-For: 203.0.113.1\r\n";
            assert_eq!(seen(&mut connection, forged).await, client);
        }
    }
    assert_eq!(rig.metrics.proxy_headers_bad.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_header_of_anybody_else_is_garbage() {
    let rig = behind(by_header()).await;
    ends(rig.raw(STRANGER).await, HEADER.as_bytes()).await;
    until("it is counted", || rig.metrics.handshakes_failed.get() == 1).await;
    let mut connection = rig.encrypt(rig.raw(STRANGER).await).await.unwrap();
    assert_eq!(seen(&mut connection, "X-Forwarded-For: 203.0.113.1\r\n").await, STRANGER);
    assert_eq!(rig.metrics.proxy_headers_bad.get(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_balancer_without_a_header_is_refused() {
    let rig = behind(by_header()).await;
    assert!(rig.encrypt(rig.raw(BALANCER).await).await.is_err(), "it began with TLS");
    let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 4000]].concat();
    let long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"PROXY \r\n012345", &endless, long] {
        ends(rig.raw(BALANCER).await, bytes).await;
    }
    until("all are counted", || rig.metrics.proxy_headers_bad.get() == 5).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_header_has_its_time() {
    let handshake_timeout = Duration::from_millis(150);
    let listener = ListenerOptions { front: by_header(), handshake_timeout, ..options() };
    let rig = Rig::with(listener, LOOPBACK).await;
    for begun in ["", "PRO", "PROXY TCP4 198.51.100.7 10.0"] {
        ends(rig.raw(BALANCER).await, begun.as_bytes()).await;
    }
    // A byte now and then does not help.
    let mut slow = rig.raw(BALANCER).await;
    let drip = async {
        for byte in HEADER.bytes() {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(handshake_timeout / 4).await;
        }
        panic!("the whole header was taken");
    };
    tokio::time::timeout(DEADLINE, drip).await.expect("it is closed");
    until("all are counted", || rig.metrics.proxy_headers_bad.get() == 4).await;
    rig.stop().await;
}

#[tokio::test]
async fn bounds_are_those_of_the_client() {
    let few =
        ListenerOptions { front: by_header(), connections_per_source_max: Some(2), ..options() };
    let rig = Rig::with(few, LOOPBACK).await;
    let connect = async |client: &str| {
        let mut tcp = rig.raw(BALANCER).await;
        let header = format!("PROXY TCP4 {client} 10.0.0.1 4711 8453\r\n");
        tcp.write_all(header.as_bytes()).await.unwrap();
        rig.encrypt(tcp).await
    };
    let mut first = connect("198.51.100.7").await.unwrap();
    assert_eq!(seen(&mut first, "").await, "198.51.100.7");
    let _second = connect("198.51.100.7").await.unwrap();
    assert!(connect("198.51.100.7").await.is_err(), "a third");
    assert_eq!(rig.metrics.refusals(Refusal::ConnectionsOfSource), 1);
    let _other = connect("198.51.100.8").await.unwrap();
    drop(first);
    until("its place is free", || rig.metrics.connections_open.get() == 2).await;
    connect("198.51.100.7").await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn plain_is_for_proxies_only() {
    let front =
        Front { proxies: networks(&["127.0.0.2/32"]), tls: TlsEnds::AtProxies, ..Front::default() };
    let rig = behind(front).await;
    let forwarded = "X-Forwarded-For: 203.0.113.1, 198.51.100.7\r\n";
    let mut plain = Client::over(rig.raw(BALANCER).await);
    assert_eq!(seen(&mut plain, forwarded).await, "198.51.100.7");
    // A balancer that adds a line of its own.
    let lines = "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-For: 198.51.100.7\r\n";
    assert_eq!(seen(&mut plain, lines).await, "198.51.100.7");
    let mut encrypted = rig.encrypt(rig.raw(BALANCER).await).await.unwrap();
    assert_eq!(seen(&mut encrypted, forwarded).await, "198.51.100.7");

    ends(rig.raw(STRANGER).await, post("/agent/read", forwarded, "").as_bytes()).await;
    until("it is counted", || rig.metrics.handshakes_failed.get() == 1).await;
    let mut stranger = rig.encrypt(rig.raw(STRANGER).await).await.unwrap();
    assert_eq!(seen(&mut stranger, forwarded).await, STRANGER);
    rig.stop().await;
}

#[tokio::test]
async fn without_leave_nobody_is_plain() {
    let rig = behind(Front { proxies: networks(&["127.0.0.0/8"]), ..Front::default() }).await;
    ends(rig.raw(BALANCER).await, post("/agent/read", "", "").as_bytes()).await;
    rig.stop().await;
}
