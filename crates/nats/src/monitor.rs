//! What servers say about themselves: over their monitoring ports, or to the system account.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// How long servers may take to answer a question to all of them.
const ALL_WAIT: Duration = Duration::from_millis(700);

/// What one server says about its JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `sync_interval` is `always`.
    pub(crate) sync_always: bool,
    /// Otherwise this often.
    pub(crate) sync_interval: Duration,
    /// Bytes on disk.
    pub(crate) used_bytes: u64,
    /// Bytes that streams have reserved.
    pub(crate) reserved_bytes: u64,
    /// Bytes it may use; 0 when there is no bound.
    pub(crate) max_bytes: u64,
}

impl Server {
    /// From the answer to `/varz`, with the server's name. `None` when it has no JetStream.
    fn read(varz: &Value) -> Option<(String, Self)> {
        let name = varz.get("server_name")?.as_str()?.to_owned();
        let config = varz.pointer("/jetstream/config")?;
        let number = |path: &str| varz.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let server = Self {
            // Left out when it is false.
            sync_always: config.get("sync_always").and_then(Value::as_bool).unwrap_or(false),
            sync_interval: Duration::from_nanos(number("/jetstream/config/sync_interval")),
            used_bytes: number("/jetstream/stats/storage"),
            reserved_bytes: number("/jetstream/stats/reserved_storage"),
            max_bytes: number("/jetstream/config/max_storage"),
        };
        Some((name, server))
    }
}

/// Asks one monitoring address (`http://host:8222`).
///
/// # Errors
/// When it does not answer as a NATS server with JetStream does.
pub(crate) async fn ask(address: &str, within: Duration) -> io::Result<(String, Server)> {
    let host = address
        .strip_prefix("http://")
        .ok_or_else(|| io::Error::other("only http:// addresses can be asked"))?
        .trim_end_matches('/');
    let asking = async {
        let mut varz = get(host, "/varz").await?;
        // A server that was asked before its JetStream was up leaves it out of this answer for good.
        if varz.pointer("/jetstream/config").is_none() {
            let jsz = get(host, "/jsz?config=true").await?;
            let enabled = jsz.get("disabled").and_then(Value::as_bool) != Some(true);
            let config = jsz.get("config").filter(|_| enabled).cloned();
            if let (Some(varz), Some(config)) = (varz.as_object_mut(), config) {
                varz.insert("jetstream".to_owned(), json!({"config": config, "stats": jsz}));
            }
        }
        Ok::<_, io::Error>(varz)
    };
    let varz = timeout(within, asking).await??;
    Server::read(&varz).ok_or_else(|| io::Error::other("it has no JetStream"))
}

/// The answer to GET `path` at `host`.
async fn get(host: &str, path: &str) -> io::Result<Value> {
    let mut socket = TcpStream::connect(host).await?;
    let head = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map(|end| &answer[end + 4..]).unwrap_or_default();
    serde_json::from_slice(body).map_err(|_| io::Error::other("no NATS server"))
}

/// Asks all servers through the connection itself; they answer to the system account only.
pub(crate) async fn ask_all(client: &Client) -> BTreeMap<String, Server> {
    let inbox = client.new_inbox();
    let mut found = BTreeMap::new();
    let Ok(mut answers) = client.subscribe(inbox.clone()).await else { return found };
    let asked = client.publish_with_reply("$SYS.REQ.SERVER.PING.VARZ", inbox, "{}".into()).await;
    if asked.is_err() {
        return found;
    }
    let deadline = Instant::now() + ALL_WAIT;
    while let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await {
        if answer.status.is_some() {
            break;
        }
        let body: Option<Value> = serde_json::from_slice(&answer.payload).ok();
        let varz = body.as_ref().and_then(|body| body.get("data"));
        found.extend(varz.and_then(Server::read));
    }
    found
}
