//! The ceiling of a task to all: holds links of the same simulator, and writes one frame to each in a
//! plain loop. No directory, no hunt, no queue, nothing recorded.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::Args;
use muster_codec_native::{
    Challenge, EnrolAnswer, LinkLimits, ServerFrame, Task, TaskLimits, Welcome,
};
use muster_types::{AgentNo, HuntNo, TaskId, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// How the bare server is started.
#[derive(Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long)]
    port: u16,
    /// Where to leave the CA.
    #[arg(long)]
    ca: PathBuf,
}

type Link = TlsStream<TcpStream>;

/// Serves until standard input ends. `send NUMBER` writes a task with that number to all links.
pub fn run(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let acceptor = acceptor(&options)?;
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    let links: Arc<Mutex<Vec<Link>>> = Arc::default();
    let mut words = words();
    let mut next = 0;
    println!("ready");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                next += 1;
                let (acceptor, links, agent_no) = (acceptor.clone(), links.clone(), AgentNo(next));
                let (tcp, _) = accepted?;
                // Ends with its connection; a simulator that goes away is no error.
                drop(tokio::spawn(async move {
                    if let Ok(Some(link)) = open(tcp, acceptor, agent_no).await {
                        links.lock().await.push(link);
                    }
                }));
            }
            word = words.recv() => {
                let Some(word) = word else { return Ok(()) };
                let no = word.trim().strip_prefix("send ").context("only `send NUMBER`")?.parse()?;
                let frame = message(&task(no).encode()?);
                let mut links = links.lock().await;
                for link in links.iter_mut() {
                    link.write_all(&frame).await?;
                    link.flush().await?;
                }
                println!("{}", links.len());
            }
        }
    }
}

/// What Muster sends for the bench's question.
fn task(no: u64) -> ServerFrame {
    ServerFrame::from(Task {
        task: TaskId { hunt: HuntNo(no), attempt: 1 },
        query: super::api::QUERY.to_owned(),
        params: std::collections::BTreeMap::new(),
        limits: TaskLimits {
            timeout_ms: 600_000,
            rows: 1_000_000,
            bytes: 0,
            memory_bytes: 256 << 20,
        },
    })
}

fn words() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// TLS as Muster does it: a P-256 leaf, aws-lc-rs, one ticket.
fn acceptor(options: &Options) -> anyhow::Result<TlsAcceptor> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    std::fs::write(&options.ca, made.cert.pem())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = made.signing_key.serialize_der();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            key.try_into().map_err(|error| anyhow::anyhow!("the key: {error}"))?,
        )?;
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// TLS, then either an enrolment, which ends it, or a link.
async fn open(tcp: TcpStream, tls: TlsAcceptor, agent_no: AgentNo) -> anyhow::Result<Option<Link>> {
    tcp.set_nodelay(true)?;
    let mut link = tls.accept(tcp).await?;
    let head = head(&mut link).await?;
    if head.starts_with("POST") {
        let body = vec![0; header(&head, "content-length").context("no length")?.parse()?];
        let mut body = body;
        link.read_exact(&mut body).await?;
        let answer = serde_json::to_string(&EnrolAnswer { agent_no, server_cas: String::new() })?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        link.write_all(format!("{head}{answer}").as_bytes()).await?;
        link.shutdown().await?;
        return Ok(None);
    }
    let key = derive_accept_key(header(&head, "sec-websocket-key").context("no key")?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {key}\r\n\r\n"
    );
    link.write_all(answer.as_bytes()).await?;
    link.write_all(&message(&ServerFrame::from(Challenge { nonce: [7; 32] }).encode()?)).await?;
    link.flush().await?;
    hello(&mut link).await?;
    let limits =
        LinkLimits { frame_bytes: 4 << 20, batches_in_flight: 8, ping_interval_ms: 30_000 };
    let welcome = Welcome {
        server_version: "bare".to_owned(),
        agent_no,
        limits,
        server_cas: String::new(),
        time: Timestamp(0),
    };
    link.write_all(&message(&ServerFrame::from(welcome).encode()?)).await?;
    link.flush().await?;
    Ok(Some(link))
}

async fn head(link: &mut Link) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 8192, "a head without end");
        head.push(link.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads one message of the agent and forgets it.
async fn hello(link: &mut Link) -> anyhow::Result<()> {
    let mut start = [0; 2];
    link.read_exact(&mut start).await?;
    let len = match start[1] & 0x7f {
        127 => bail!("a hello of more than 64 KiB"),
        126 => usize::from(link.read_u16().await?),
        short => usize::from(short),
    };
    link.read_exact(&mut vec![0; len + 4]).await?;
    Ok(())
}

/// One binary WebSocket message.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x82];
    match u16::try_from(payload.len()) {
        Ok(len) if len < 126 => bytes.push(len as u8),
        Ok(len) => {
            bytes.push(126);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => unreachable!("frames of the bench are short"),
    }
    bytes.extend_from_slice(payload);
    bytes
}
