//! Garbage, slowness, excess and lies at the agents' port: cut off, counted, and nobody else notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use muster_testkit::{Server, ServerOptions, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Ask, SOON, roots};

const UPGRADE: &str = "GET /v1/agent/link HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

async fn tls(server: &Server) -> anyhow::Result<TlsStream<tokio::net::TcpStream>> {
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots(server)?)
        .with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", server.ports()[1])).await?;
    let name = rustls::pki_types::ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
}

/// Sends it all and reads until the server closes; what it said.
async fn say(server: &Server, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut link = tls(server).await?;
    let mut answer = Vec::new();
    let talk = async {
        // The server may have had enough before all is sent.
        let _ = link.write_all(bytes).await;
        let _ = link.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(SOON, talk).await.context("the server keeps listening")?;
    Ok(answer)
}

/// Says the first words of an agent, then `bytes`; what the server answered to them.
async fn say_on_link(server: &Server, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut link = upgraded(server).await?;
    let mut answer = Vec::new();
    let talk = async {
        let _ = link.write_all(bytes).await;
        let _ = link.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(SOON, talk).await.context("the server keeps listening")?;
    Ok(answer)
}

/// A WebSocket whose server has sent its challenge.
async fn upgraded(server: &Server) -> anyhow::Result<TlsStream<tokio::net::TcpStream>> {
    let mut link = tls(server).await?;
    link.write_all(UPGRADE.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(SOON, link.read_u8()).await??);
    }
    anyhow::ensure!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    Ok(link)
}

/// A WebSocket frame of a client, masked with zeros.
fn frame(announced: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 127];
    frame.extend(announced.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// What does not wait; gives back a link on which all is said and nobody reads.
async fn talk(server: &Server) -> anyhow::Result<TlsStream<tokio::net::TcpStream>> {
    let long_head = [b"GET /".as_slice(), &[b'a'; 100_000]].concat();
    assert!(!say(server, &long_head).await?.starts_with(b"HTTP/1.1 101"));
    // What comes before the answer to an upgrade is not read.
    say(server, &[UPGRADE.as_bytes(), &frame(64, &[0xa5; 64])].concat()).await?;
    // Announces 8 EiB and 1 GiB, then garbage instead of a proof.
    say_on_link(server, &frame(u64::MAX >> 1, b"x")).await?;
    say_on_link(server, &frame(1 << 30, &[0; 1000])).await?;
    say_on_link(server, &frame(64, &[0xa5; 64])).await?;
    let enrol = b"POST /v1/agent/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    say(server, &[enrol.as_slice(), &[b'{'; 100_000]].concat()).await?;
    upgraded(server).await
}

#[test]
fn hostile_agents_disturb_nobody() -> anyhow::Result<()> {
    let server = Server::up(ServerOptions::default())?;
    server.agent_online()?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.ports()[1]));
    let counts = || -> anyhow::Result<[f64; 4]> {
        let read = |name: &str| server.metric(&format!("muster_gateway_{name}_total"));
        Ok([read("handshakes_failed")?, read("oversize")?, read("malformed")?, read("slow")?])
    };
    let before = counts()?;

    // Slow and silent ones, open all the while.
    let mut slow: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    for (n, socket) in slow.iter_mut().enumerate() {
        socket.set_read_timeout(Some(SOON))?;
        socket.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00][..n % 6])?;
    }
    // They may stay for ten seconds.
    wait_for("them to be open", SOON, || {
        let open = server.metric("muster_gateway_connections_open")?;
        Ok((open >= 21.0).then_some(()))
    })?;
    // No TLS at all.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0xff; 70_000]] {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(SOON))?;
        let _ = socket.write_all(garbage);
        let _ = socket.read_to_end(&mut Vec::new());
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _half_open = runtime.block_on(talk(&server))?;

    // Meanwhile everybody else is served.
    let told = server.tell(&["query", "SELECT 1 AS one", "-o", "csv"])?;
    assert_eq!((told.code, told.out.as_str()), (0, "one\n1\n"), "{told:?}");

    // The slow ones and those without TLS; two too large; garbage for a hello; the half open one.
    wait_for("all to be cut off and counted", SOON, || {
        std::thread::sleep(Duration::from_millis(100));
        let now = counts()?;
        let more: Vec<f64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        let open = server.metric("muster_gateway_connections_open")?;
        let all = more[0] >= 23.0 && more[1] >= 2.0 && more[2] >= 1.0 && more[3] >= 1.0;
        Ok((all && open == 1.0).then_some(()))
    })
    .with_context(|| format!("{before:?}, now {:?}", counts().unwrap_or_default()))?;
    for socket in &mut slow {
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert_eq!(server.list(&["agents"])?.len(), 1);
    assert_eq!(server.metric("muster_gateway_sessions")?, 1.0);
    Ok(())
}
