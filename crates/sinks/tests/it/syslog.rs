//! Syslog over UDP, TCP and TLS.

use std::sync::Arc;
use std::time::Duration;

use muster_results::RowClass;
use muster_sinks::{Destination, SyslogTransport};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;

use crate::kit::{World, n_of, rows};

fn to(
    address: std::net::SocketAddr,
    transport: SyslogTransport,
    ca: Option<String>,
) -> Destination {
    let address = format!("localhost:{}", address.port());
    Destination::Syslog { address, transport, facility: 13, ca_pem: ca, allow_private: true }
}

/// The envelope of a message; checks its head.
fn envelope(message: &str) -> Value {
    let parts: Vec<&str> = message.splitn(8, ' ').collect();
    let [priority, at, host, app, process, id, data, json] = parts[..] else {
        panic!("{message}");
    };
    assert_eq!((priority, host, app), ("<110>1", "host", "muster"));
    assert_eq!((process, id, data), ("-", "linux_x", "-"));
    let envelope: Value = serde_json::from_str(json).unwrap();
    assert_eq!(envelope["@timestamp"], at);
    envelope
}

/// One message by octet counting; `None` at the end.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut length = 0;
    loop {
        match stream.read_u8().await.ok()? {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit - b'0'),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.ok()?;
    Some(String::from_utf8(message).unwrap())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("within 20 s")
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_carry_one_row_each_and_a_long_row_is_refused() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut destination = to(address, SyslogTransport::Udp, None);
    if let Destination::Syslog { address: text, .. } = &mut destination {
        *text = address.to_string();
    }
    world.add(&World::new_sink("log", destination)).await;
    let running = world.start();
    let long = format!("{{\"n\":2,\"name\":\"{}\"}}\n", "x".repeat(70_000));
    let text = format!("{}{long}{}", rows(0..2), rows(3..5));
    world.commit("linux_x", RowClass::Collected, &[(agent, &text)]).await;
    let mut got = Vec::new();
    let mut buffer = vec![0; 65_536];
    for _ in 0..4 {
        let length = soon(socket.recv(&mut buffer)).await.unwrap();
        let message = std::str::from_utf8(&buffer[..length]).unwrap();
        got.push(n_of(&envelope(message)));
    }
    let done = world.until("log", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    assert_eq!(got, [0, 1, 3, 4]);
    assert_eq!((done.progress.delivered_rows, done.progress.refused_rows), (4, 1));
}

/// A listener whose port nobody else is given while it is away.
async fn come_again() -> TcpListener {
    let port = muster_testkit::steady_port().unwrap();
    TcpListener::bind(("127.0.0.1", port)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_counts_octets_and_comes_back_after_the_server_was_away() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let listener = come_again().await;
    let address = listener.local_addr().unwrap();
    world.add(&World::new_sink("log", to(address, SyslogTransport::Tcp, None))).await;
    let running = world.start();
    world.commit("linux_x", RowClass::Collected, &[(agent, &rows(0..15))]).await;
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    for n in 0..15 {
        assert_eq!(n_of(&envelope(&soon(frame(&mut stream)).await.unwrap())), n);
    }
    // Gone, with its port; then rows come; then it is back.
    drop((stream, listener));
    world.commit("linux_x", RowClass::Collected, &[(agent, &rows(15..40))]).await;
    world.until("log", "it fails", |status| status.progress.failures > 0).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&39) {
        seen.push(n_of(&envelope(&soon(frame(&mut stream)).await.unwrap())));
    }
    world.until("log", "all rows done", |status| status.lag_rows == 0).await;
    running.stop().await;
    // What was written to the connection that broke may come again, under the same ids.
    seen.dedup();
    let new: Vec<u32> = seen.into_iter().filter(|n| *n >= 15).collect();
    assert_eq!(new, (15..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_connection_took_along_comes_again() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let listener = come_again().await;
    let address = listener.local_addr().unwrap();
    world.add(&World::new_sink("log", to(address, SyslogTransport::Tcp, None))).await;
    let running = world.start();
    world.commit("linux_x", RowClass::Collected, &[(agent, &rows(0..25))]).await;
    let (stream, _) = soon(listener.accept()).await.unwrap();
    world.until("log", "all is written", |status| status.progress.delivered_rows == 25).await;
    // Nothing of it was read.
    drop((stream, listener));
    world.commit("linux_x", RowClass::Collected, &[(agent, &rows(25..30))]).await;
    world.until("log", "it fails", |status| status.progress.failures > 2).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    for n in 0..30 {
        assert_eq!(n_of(&envelope(&soon(frame(&mut stream)).await.unwrap())), n);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_asks_for_the_right_certificate() {
    let mut world = World::new().await;
    let agent = world.endpoint("host", "").await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut seen = Vec::new();
            while seen.len() < 5 {
                let Some(message) = frame(&mut stream).await else { break };
                seen.push(n_of(&envelope(&message)));
            }
            if seen.len() == 5 {
                return seen;
            }
        }
    });
    let ca = made.cert.pem();
    world.add(&World::new_sink("log", to(address, SyslogTransport::Tls, Some(ca)))).await;
    world.add(&World::new_sink("strange", to(address, SyslogTransport::Tls, None))).await;
    let running = world.start();
    world.commit("linux_x", RowClass::Collected, &[(agent, &rows(0..5))]).await;
    assert_eq!(soon(serve).await.unwrap(), [0, 1, 2, 3, 4]);
    world.until("log", "all rows done", |status| status.lag_rows == 0).await;
    let strange = world.until("strange", "it fails", |s| s.progress.failures > 0).await;
    running.stop().await;
    assert_eq!(strange.progress.delivered_rows, 0);
}
