//! More than the server takes at once: large bodies against the byte budget, and one agent that floods.
//!
//! `cargo xtask bodies` is the full size, with a release build. The default
//! has the same shape, ten times what the budget holds, and fits a test run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_testkit::{Server, ServerOptions};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::support::roots;

const MB: usize = 1 << 20;
/// Beside the budget: what an idle server takes, bodies that are being read a second time, rows on their
/// way to a segment, and what the allocator keeps.
const BASE_MB: u64 = 300;
/// Everybody is done by then.
const PATIENCE: Duration = Duration::from_secs(300);

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// `{}`: durable.
    Taken,
    /// An `error` body: the agent keeps its lines and comes again.
    Refused,
    /// Anything else, for which a real agent would lose rows or come back at once.
    Wrong(String),
}

/// osquery agents, as far as this takes them.
#[derive(Clone)]
struct Agents {
    tls: TlsConnector,
    address: String,
    secret: String,
}

impl Agents {
    fn of(server: &Server) -> anyhow::Result<Self> {
        let roots = roots(server)?;
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let secret = std::fs::read_to_string(server.data_dir().join("enrol-secret"))?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls)),
            address: format!("127.0.0.1:{}", server.ports()[1]),
            secret: secret.trim().to_owned(),
        })
    }

    /// A request on a connection of its own, its status and body.
    async fn post(&self, path: &str, key: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let tcp = TcpStream::connect(&self.address).await?;
        let name = ServerName::try_from("127.0.0.1")?;
        let mut io = self.tls.connect(name, tcp).await?;
        let authorization = match key {
            "" => String::new(),
            key => format!("authorization: NodeKey {key}\r\n"),
        };
        let head = format!(
            "POST /api/v1/osquery/{path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{authorization}\r\n",
            self.address,
            body.len(),
        );
        io.write_all(head.as_bytes()).await?;
        io.write_all(body).await?;
        io.flush().await?;
        let mut answer = Vec::new();
        loop {
            if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
                let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
                let length = head.split("content-length: ").nth(1);
                let length =
                    length.and_then(|text| text.split("\r\n").next()?.parse::<usize>().ok());
                let end = at + 4 + length.context("a length")?;
                if answer.len() >= end {
                    return Ok((status.context("a status")?, answer[at + 4..end].to_vec()));
                }
            }
            ensure!(io.read_buf(&mut answer).await? > 0, "closed before the answer");
        }
    }

    async fn enrol(&self, name: &str) -> anyhow::Result<String> {
        let body = json!({"enroll_secret": self.secret, "host_identifier": name,
            "platform_type": "9", "host_details": {"system_info": {"hostname": name}}});
        let (status, answer) = self.post("enroll", "", body.to_string().as_bytes()).await?;
        let answer: Value = serde_json::from_slice(&answer).context("enrol")?;
        let key = answer["node_key"].as_str().map(str::to_owned);
        key.with_context(|| format!("{status} {answer}"))
    }

    async fn log(&self, key: &str, body: &[u8]) -> Reply {
        match self.post("log", key, body).await {
            Ok((200, body)) if body == b"{}" => Reply::Taken,
            Ok((503, body)) => match serde_json::from_slice::<Value>(&body) {
                Ok(Value::Object(answer)) if answer["error"].is_string() => Reply::Refused,
                _ => Reply::Wrong(format!("503 {}", String::from_utf8_lossy(&body))),
            },
            Ok((status, body)) => {
                Reply::Wrong(format!("{status} {}", String::from_utf8_lossy(&body)))
            }
            Err(error) => Reply::Wrong(format!("{error:#}")),
        }
    }
}

/// A log of about so many bytes.
fn log(bytes: usize) -> (Vec<u8>, u64) {
    let line = json!({"name": "load", "hostIdentifier": "h", "calendarTime": "", "unixTime": 1_800_000_000,
        "epoch": 0, "counter": 0, "numerics": false, "action": "snapshot",
        "snapshot": [{"cmdline": "x".repeat(16 << 10)}]});
    let line = line.to_string();
    let lines = (bytes / line.len()).max(1);
    let all = vec![line.as_str(); lines].join(",");
    let body = format!(r#"{{"node_key":"","log_type":"result","data":[{all}]}}"#);
    (body.into_bytes(), lines as u64)
}

fn server(budget_mb: usize) -> anyhow::Result<Server> {
    let env = [
        ("MUSTER_AGENTS__BYTES_IN_FLIGHT", format!("{budget_mb} MiB")),
        ("MUSTER_AGENTS__ENROLMENTS_PER_SECOND", "100000".to_owned()),
        ("MUSTER_STREAM__QUOTA", "16 GiB".to_owned()),
        ("MUSTER_LOG__LEVEL", "error".to_owned()),
    ];
    Server::up(ServerOptions {
        env: env.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        args: vec!["--no-agent".to_owned()],
    })
}

/// A line of the process's status, in MiB.
fn memory(server: &Server, line: &str) -> anyhow::Result<u64> {
    let pid = server.pid().context("a server")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    let kib = value.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {line}"))? / 1024)
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn five_megabytes_of_each_of_many_agents_stay_within_the_budget() -> anyhow::Result<()> {
    let clients = number("MUSTER_LOAD_CLIENTS", 32);
    let budget_mb = number("MUSTER_LOAD_BUDGET", 16);
    let server = server(budget_mb)?;
    let agents = Agents::of(&server)?;
    let idle = memory(&server, "VmRSS:")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (body, _) = log(5 * MB);
    let (body, began) = (Arc::new(body), Instant::now());
    let (mut refused, mut wrong) = (0, Vec::new());
    runtime.block_on(async {
        let mut keys = Vec::new();
        for host in 0..clients {
            keys.push(agents.enrol(&format!("host-{host}")).await?);
        }
        let mut all = JoinSet::new();
        for key in keys {
            let (agents, body) = (agents.clone(), Arc::clone(&body));
            all.spawn(async move {
                let (mut refused, mut wrong) = (0_u64, Vec::new());
                loop {
                    match agents.log(&key, &body).await {
                        Reply::Taken => return (refused, wrong),
                        Reply::Refused => refused += 1,
                        Reply::Wrong(why) => wrong.push(why),
                    }
                    // Agents wait for their interval, which is longer.
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
            });
        }
        let done = async {
            while let Some(done) = all.join_next().await {
                let (again, bad) = done.expect("a client");
                refused += again;
                wrong.extend(bad);
            }
        };
        tokio::time::timeout(PATIENCE, done).await.context("not all were served in time")
    })?;
    let peak = memory(&server, "VmHWM:")?;
    println!(
        "{clients} agents with 5 MiB each against a budget of {budget_mb} MiB: all taken after {:?}, \
         {refused} times told to come again; resident memory {idle} MiB idle, {peak} MiB at most",
        began.elapsed(),
    );
    ensure!(wrong.is_empty(), "{} answers no agent understands: {:?}", wrong.len(), wrong.first());
    ensure!(server.metric("muster_gateway_appended_total")? >= clients as f64);
    ensure!(refused > 0, "there was room for all");
    ensure!(peak <= budget_mb as u64 + BASE_MB, "{peak} MiB");
    Ok(())
}

#[test]
fn an_agent_that_floods_is_held_back_and_others_are_not() -> anyhow::Result<()> {
    const QUIET: usize = 20;
    const ROUNDS: usize = 15;
    let server = server(96)?;
    let agents = Agents::of(&server)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (large, _) = log(3 * MB);
    let (small, _) = log(32 << 10);
    let (large, small) = (Arc::new(large), Arc::new(small));
    let (mut took, mut held_back, mut failed) = (Vec::new(), 0, Vec::new());
    runtime.block_on(async {
        let flooder = agents.enrol("flooder").await?;
        let mut quiet = Vec::new();
        for host in 0..QUIET {
            quiet.push(agents.enrol(&format!("quiet-{host}")).await?);
        }
        let mut floods = JoinSet::new();
        for _ in 0..40 {
            let (agents, key, body) = (agents.clone(), flooder.clone(), Arc::clone(&large));
            floods.spawn(async move {
                loop {
                    let _ = agents.log(&key, &body).await;
                }
            });
        }
        let mut others = JoinSet::new();
        for key in quiet {
            let (agents, body) = (agents.clone(), Arc::clone(&small));
            others.spawn(async move {
                let mut replies = Vec::new();
                for _ in 0..ROUNDS {
                    let began = Instant::now();
                    replies.push((agents.log(&key, &body).await, began.elapsed()));
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                replies
            });
        }
        while let Some(replies) = others.join_next().await {
            for (reply, time) in replies? {
                match reply {
                    Reply::Taken => took.push(time),
                    Reply::Refused => held_back += 1,
                    Reply::Wrong(why) => failed.push(why),
                }
            }
        }
        floods.shutdown().await;
        anyhow::Ok(())
    })?;
    took.sort_unstable();
    let all = QUIET * ROUNDS;
    let limited = server.metric("muster_gateway_refused_total{reason=\"rate\"}")?;
    println!(
        "beside an agent that floods on 40 connections ({limited} of its requests held back): \
         {} of {all} requests of {QUIET} others were taken, {held_back} told to come again, p50 {:?}, max {:?}",
        took.len(),
        took.get(took.len() / 2),
        took.last(),
    );
    ensure!(limited > 0.0, "the flood was not held back");
    ensure!(failed.is_empty(), "{failed:?}");
    ensure!(took.len() * 100 >= all * 95, "{} of {all}", took.len());
    Ok(())
}
