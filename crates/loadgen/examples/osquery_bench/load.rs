//! The load: polls over kept connections, or a connection for each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is asked for.
pub const PATH: &str = "/api/v1/osquery/distributed/read";
/// What an agent hears when there is nothing to do.
pub const ANSWER: &str = "{\"queries\":{}}";
/// Loopback addresses connections come from: each has some 28,000 ports, and a closed connection keeps
/// its port for a minute.
const SOURCES: u32 = 64;
/// Connections opened at a time.
const OPENING: usize = 64;
/// What an agent waits for all of a request.
const PATIENCE: Duration = Duration::from_secs(16);

/// Where the polls go.
#[derive(Clone)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Trusts it.
    pub tls: TlsConnector,
    /// One whole request for each agent.
    pub requests: Rc<[Box<[u8]>]>,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests under way at a time.
    pub in_flight: usize,
    /// Requests per second, as even as can be; as many as there can be without.
    pub rate: Option<u32>,
    /// For how long.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Polls that were answered.
    pub answered: u64,
    /// Of these, with something to do: what every agent is asked each hour is handed out at a pace of
    /// its own, and a new fleet is asked in its first quarter of an hour.
    pub work: u64,
    /// From the wish to ask to the whole answer, in microseconds; unsorted.
    pub micros: Vec<u32>,
    /// Seconds from the first to the last.
    pub seconds: f64,
}

type Stream = TlsStream<TcpStream>;

/// Connections with what they ask.
pub struct Kept(VecDeque<(Stream, usize)>);

impl Kept {
    /// Opens so many, and asks each of them once.
    pub async fn open(target: &Target, connections: usize) -> anyhow::Result<Self> {
        let kept = Rc::new(RefCell::new(VecDeque::with_capacity(connections)));
        let next = Rc::new(Cell::new(0));
        let open = || {
            let (target, kept, next) = (target.clone(), kept.clone(), next.clone());
            async move {
                while next.get() < connections {
                    let no = next.replace(next.get() + 1);
                    let mut stream = target.connect(no).await?;
                    target.ask(&mut stream, no).await?;
                    kept.borrow_mut().push_back((stream, no));
                }
                anyhow::Ok(())
            }
        };
        all(OPENING, open).await?;
        Ok(Self(
            Rc::try_unwrap(kept).ok().context("a connection is still being opened")?.into_inner(),
        ))
    }

    /// Asks each connection in its turn: the one that was not asked for the longest time.
    pub async fn ask(&mut self, target: &Target, load: Load) -> anyhow::Result<Outcome> {
        let kept = Rc::new(RefCell::new(std::mem::take(&mut self.0)));
        let (target, held) = (target.clone(), kept.clone());
        let outcome = pace(load, move |_| {
            let (target, kept) = (target.clone(), held.clone());
            async move {
                let taken = kept.borrow_mut().pop_front();
                let (mut stream, agent) =
                    taken.context("more requests under way than connections")?;
                let heard = target.ask(&mut stream, agent).await?;
                kept.borrow_mut().push_back((stream, agent));
                Ok(heard)
            }
        })
        .await;
        self.0 = kept.take();
        outcome
    }
}

/// A new connection for each request, with a full handshake.
pub async fn ask_anew(target: &Target, load: Load) -> anyhow::Result<Outcome> {
    let target = target.clone();
    pace(load, move |no| {
        let target = target.clone();
        async move {
            let agent = no as usize;
            let mut stream = target.connect(agent).await?;
            let heard = target.ask(&mut stream, agent).await?;
            // As agents do: they say good-bye, and do not wait for an answer to it.
            let _ = stream.shutdown().await;
            Ok(heard)
        }
    })
    .await
}

/// Does something again and again, in its pace, for a while.
async fn pace<F, D>(load: Load, once: D) -> anyhow::Result<Outcome>
where
    F: Future<Output = anyhow::Result<Heard>> + 'static,
    D: Fn(u64) -> F + Clone + 'static,
{
    let (begun, next) = (Instant::now(), Rc::new(Cell::new(0u64)));
    let end = begun + load.time;
    let (micros, work) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    let worker = || {
        let (once, next) = (once.clone(), next.clone());
        let (micros, work) = (micros.clone(), work.clone());
        async move {
            loop {
                let no = next.replace(next.get() + 1);
                let mut due = Instant::now();
                if let Some(rate) = load.rate {
                    // Open loop: a late answer does not put off what comes after it.
                    due = begun + Duration::from_secs(no) / rate;
                    sleep_until(due).await;
                }
                if due >= end {
                    return Ok(());
                }
                let heard = timeout(PATIENCE, once(no)).await.context("no answer in 16 s")??;
                if heard == Heard::Work {
                    work.set(work.get() + 1);
                }
                let took = due.elapsed().as_micros();
                micros.borrow_mut().push(u32::try_from(took).unwrap_or(u32::MAX));
            }
        }
    };
    all(load.in_flight, worker).await?;
    let micros = micros.take();
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Outcome { answered: micros.len() as u64, work: work.get(), micros, seconds })
}

/// So many of these at once, on this thread, until all have ended.
async fn all<F>(count: usize, make: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let set = LocalSet::new();
    let tasks: Vec<_> = (0..count).map(|_| set.spawn_local(make())).collect();
    set.run_until(async {
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
    .await
}

impl Target {
    async fn connect(&self, no: usize) -> anyhow::Result<Stream> {
        let socket = TcpSocket::new_v4()?;
        let from = Ipv4Addr::from(0x7f00_0100 + u32::try_from(no)? % SOURCES);
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(from.into(), 0)).context("no port left")?;
        let tcp = socket.connect(self.address).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        self.tls.connect(name, tcp).await.context("handshake")
    }

    async fn ask(&self, stream: &mut Stream, agent: usize) -> anyhow::Result<Heard> {
        stream.write_all(&self.requests[agent % self.requests.len()]).await?;
        hear(stream).await
    }
}

/// What an agent hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing to do.
    Nothing,
    /// Something.
    Work,
}

/// Reads an answer, which must be a good one.
pub async fn hear(stream: &mut Stream) -> anyhow::Result<Heard> {
    let (mut answer, mut len) = ([0; 1024], 0);
    loop {
        let n = stream.read(&mut answer[len..]).await?;
        ensure!(n > 0, "the server closed the connection");
        len += n;
        let text = &answer[..len];
        if text.ends_with(ANSWER.as_bytes()) && text.starts_with(b"HTTP/1.1 200") {
            return Ok(Heard::Nothing);
        }
        let Some(head) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            ensure!(len < answer.len(), "a head of more than {len} bytes");
            continue;
        };
        let text = String::from_utf8_lossy(text);
        ensure!(text.starts_with("HTTP/1.1 200"), "another answer: {text}");
        let length = text.to_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.context("no length")?.parse()?;
        let Some(missing) = (head + 4 + length).checked_sub(len) else { bail!("too much: {text}") };
        let mut rest = vec![0; missing];
        stream.read_exact(&mut rest).await?;
        return Ok(if length == ANSWER.len() { Heard::Nothing } else { Heard::Work });
    }
}

/// A client that trusts these certificates. As agents it does not resume sessions, and offers X25519
/// and P-256: the hybrid key exchange that rustls prefers would be Muster's cost alone, nginx's OpenSSL
/// does not know it.
pub fn connector(roots: rustls::RootCertStore) -> anyhow::Result<TlsConnector> {
    let provider = CryptoProvider {
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    };
    let mut client = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(client)))
}

/// The request of one agent, as release 5.23 sends it.
pub fn request(node_key: &str) -> Box<[u8]> {
    let body = format!("{{\"node_key\":\"{node_key}\"}}");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: osquery/5.23.1\r\n\
         Authorization: NodeKey {node_key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    head.into_bytes().into()
}
