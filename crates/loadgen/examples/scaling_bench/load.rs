//! The load: agents with a connection each, which ask again as soon as they have heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What an agent waits for all of a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// What agents do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// Ask for work; there is none.
    Poll,
    /// Post log lines.
    Log,
}

/// One agent.
#[derive(Clone)]
pub struct Target {
    /// Its server.
    pub address: std::net::SocketAddr,
    /// Trusts it.
    pub tls: TlsConnector,
    /// Its node key.
    pub key: String,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Requests that were answered as agents want it.
    pub answered: u64,
    /// Requests that were to come later.
    pub refused: u64,
    /// Seconds from the first to the last.
    pub seconds: f64,
    micros: Vec<u32>,
}

impl Outcome {
    /// In milliseconds.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let mut micros = self.micros.clone();
        micros.sort_unstable();
        let at = (micros.len() as f64 * share) as usize;
        micros.get(at.min(micros.len().checked_sub(1)?)).map(|us| f64::from(*us) / 1000.0)
    }
}

/// All agents at once, for a while.
pub async fn run(
    targets: &[Target],
    kind: Kind,
    lines: usize,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let mut agents = JoinSet::new();
    let mut streams = Vec::with_capacity(targets.len());
    for target in targets {
        streams.push(connect(target).await?);
    }
    let (began, end) = (Instant::now(), Instant::now() + time);
    for (target, stream) in targets.iter().zip(streams) {
        agents.spawn(agent(target.clone(), stream, kind, lines, end));
    }
    let mut outcome = Outcome::default();
    while let Some(done) = agents.join_next().await {
        let (micros, refused) = done??;
        outcome.answered += micros.len() as u64;
        outcome.refused += refused;
        outcome.micros.extend(micros);
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

async fn connect(target: &Target) -> anyhow::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    timeout(PATIENCE, target.tls.connect(name, tcp)).await?.context("handshake")
}

/// One agent's life; how long each answer took, and how many were refusals.
async fn agent(
    target: Target,
    mut stream: TlsStream<TcpStream>,
    kind: Kind,
    lines: usize,
    end: Instant,
) -> anyhow::Result<(Vec<u32>, u64)> {
    let (mut micros, mut refused) = (Vec::new(), 0);
    while Instant::now() < end {
        let request = request(&target, kind, lines);
        let began = Instant::now();
        stream.write_all(&request).await?;
        let answer = timeout(PATIENCE, hear(&mut stream)).await.context("no answer")??;
        if answer.contains("\"error\"") {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        ensure!(!answer.contains("\"node_invalid\":true"), "a key is no good: {answer}");
        micros.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok((micros, refused))
}

/// One whole request.
fn request(target: &Target, kind: Kind, lines: usize) -> Vec<u8> {
    let (path, body) = match kind {
        Kind::Poll => ("distributed/read", format!("{{\"node_key\":\"{}\"}}", target.key)),
        Kind::Log => ("log", log(&target.key, lines)),
    };
    let head = format!(
        "POST /api/v1/osquery/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: osquery/5.23.1\r\n\
         Authorization: NodeKey {}\r\nContent-Length: {}\r\n\r\n{body}",
        target.key,
        body.len()
    );
    head.into_bytes()
}

/// Lines of a process table, none of which was there before.
fn log(key: &str, lines: usize) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let first = NEXT.fetch_add(lines as u64, Ordering::Relaxed);
    let mut text = format!("{{\"node_key\":\"{key}\",\"log_type\":\"result\",\"data\":[");
    for n in first..first + lines as u64 {
        if n > first {
            text.push(',');
        }
        text += &format!(
            "{{\"name\":\"bench_processes\",\"hostIdentifier\":\"bench\",\"calendarTime\":\"\",\
             \"unixTime\":{},\"epoch\":0,\"counter\":{n},\"numerics\":false,\"columns\":{{\"pid\":\"{n}\",\
             \"name\":\"postgres\",\"path\":\"/usr/lib/postgresql/15/bin/postgres\",\"cmdline\":\
             \"/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main\",\"uid\":\"102\",\
             \"gid\":\"106\",\"parent\":\"1\",\"threads\":\"1\",\"resident_size\":\"{}\",\"state\":\"S\"}},\
             \"action\":\"added\"}}",
            1_800_000_000 + n / 100,
            1_048_576 + n,
        );
    }
    text + "]}"
}

/// Reads one answer; its body.
async fn hear(stream: &mut TlsStream<TcpStream>) -> anyhow::Result<String> {
    let mut read = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            bail!("the server closed the connection");
        }
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(read.len() < 64 << 10, "a head without an end");
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.context("no length")?.trim().parse()?;
        while read.len() < end + 4 + length {
            ensure!(stream.read_buf(&mut read).await? > 0, "the answer is cut short");
        }
        return Ok(String::from_utf8_lossy(&read[end + 4..]).into_owned());
    }
}

/// A client that trusts this CA.
pub fn connector(pem: &str) -> anyhow::Result<TlsConnector> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes())?)?;
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(client)))
}
