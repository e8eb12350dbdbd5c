//! Whether what JetStream acknowledges survives.
//!
//! A server with its defaults acknowledges what it has written and not yet synced: a power failure
//! loses up to two minutes of it. What is promised to agents needs `sync_interval: always`, and
//! three copies for the loss of a machine. What cannot be seen is said to be unverified, never to
//! be in order.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::stream::{Info, StorageType};
use async_nats::jetstream::{self, Context};

use crate::finding::Severity::{Fault, Unverified, Warning};
use crate::monitor::{self, Server};
use crate::{Connection, Finding, Version};

/// How long one question may take.
const ASK_WAIT: Duration = Duration::from_secs(3);

/// Payloads of this many bytes are needed.
const PAYLOAD_BYTES: usize = 1 << 20;

/// What a deployment is meant to be.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Copies of every stream.
    pub replicas: usize,
    /// Names of the streams that must be there.
    pub streams: Vec<String>,
    /// Monitoring addresses of the servers (`http://host:8222`), as far as they are known.
    pub monitors: Vec<String>,
}

/// Looks at the cluster behind a connection. An empty answer means that everything was seen and is
/// in order.
pub async fn durability(connection: &Connection, expected: &Expected) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !connection.is_connected() {
        let text = format!("no NATS server answers at {}", connection.shown());
        findings.push(Finding::new("nats-away", Fault, text, "start it, or correct stream.url"));
        return findings;
    }
    server(connection, &mut findings);
    let mut context = jetstream::new(connection.client().clone());
    context.set_timeout(ASK_WAIT);
    let account = match context.query_account().await {
        Ok(account) => account,
        Err(error) => {
            let text = format!("JetStream does not answer: {error}");
            let remedy = "enable jetstream in the servers' configuration, and for the account";
            findings.push(Finding::new("nats-jetstream", Fault, text, remedy));
            return findings;
        }
    };
    if let Some(max) = account.limits.max_storage.and_then(|max| u64::try_from(max).ok())
        && max > 0
    {
        full("the account", account.storage, max, &mut findings);
    }
    if expected.replicas < 3 {
        let text = format!("streams are kept {} times", expected.replicas);
        let remedy = "run three NATS servers and set nats.replicas: 3";
        findings.push(Finding::new("nats-replicas", Fault, text, remedy));
    }
    let peers = streams(&context, expected, &mut findings).await;
    synced(connection, expected, &peers, &mut findings).await;
    findings
}

/// What the connected server says of itself.
fn server(connection: &Connection, findings: &mut Vec<Finding>) {
    let remedy = "install a current NATS server";
    match connection.version() {
        Some(version) if version >= Version::OLDEST => {}
        Some(version) => {
            let text = format!("the NATS server is {version}, older than {}", Version::OLDEST);
            findings.push(Finding::new("nats-version", Fault, text, remedy));
        }
        None => {
            let text = "the NATS server does not say its version";
            findings.push(Finding::new("nats-version", Unverified, text, remedy));
        }
    }
    let payload = connection.client().max_payload();
    if payload < PAYLOAD_BYTES {
        let text = format!("the NATS servers take messages of at most {payload} bytes");
        let remedy = "set max_payload to 1MB or more in the servers' configuration";
        findings.push(Finding::new("nats-payload", Warning, text, remedy));
    }
    if connection.status().borrow().lame_duck {
        let text = "the connected NATS server is about to stop";
        findings.push(Finding::new("nats-lame-duck", Warning, text, "nothing, if that is meant"));
    }
}

/// The streams one by one; the names of the servers that hold them.
async fn streams(
    context: &Context,
    expected: &Expected,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let mut peers: Vec<String> = Vec::new();
    for name in &expected.streams {
        match context.get_stream(name).await {
            Ok(stream) => {
                let info = stream.cached_info();
                stream_findings(info, expected.replicas, findings);
                let cluster = info.cluster.iter();
                peers.extend(cluster.flat_map(|cluster| {
                    cluster
                        .leader
                        .iter()
                        .chain(cluster.replicas.iter().map(|peer| &peer.name))
                        .cloned()
                }));
            }
            Err(error) => {
                let text = format!("stream {name} cannot be looked at: {error}");
                let remedy = "start a muster server once, which makes it; else look at the cluster";
                findings.push(Finding::new("nats-stream", Fault, text, remedy));
            }
        }
    }
    peers.sort();
    peers.dedup();
    peers
}

fn stream_findings(info: &Info, replicas: usize, findings: &mut Vec<Finding>) {
    let (name, config) = (&info.config.name, &info.config);
    if config.num_replicas < replicas {
        let text = format!("stream {name} is kept {} times, not {replicas}", config.num_replicas);
        let remedy = format!("nats stream edit {name} --replicas {replicas}");
        findings.push(Finding::new("nats-replicas", Fault, text, remedy));
    }
    if config.storage != StorageType::File {
        let text = format!("stream {name} is kept in memory");
        let remedy = "drain it, delete it, and let muster make it again";
        findings.push(Finding::new("nats-memory", Fault, text, remedy));
    }
    if let Ok(max) = u64::try_from(config.max_bytes) {
        full(&format!("stream {name}"), info.state.bytes, max, findings);
    }
    let Some(cluster) = &info.cluster else { return };
    let clustered = config.num_replicas > 1;
    if clustered && cluster.leader.as_ref().is_none_or(String::is_empty) {
        let text = format!("stream {name} has no leader: nothing can be appended");
        let remedy = "start the missing NATS servers; two of three must be there";
        findings.push(Finding::new("nats-leader", Fault, text, remedy));
    }
    for peer in cluster.replicas.iter().filter(|peer| peer.offline || !peer.current) {
        let how = if peer.offline { "is away" } else { "is behind" };
        let text = format!("the copy of stream {name} on {} {how}", peer.name);
        let remedy = "start that NATS server, or wait until it has caught up";
        findings.push(Finding::new("nats-copy", Warning, text, remedy));
    }
}

/// Whether every server syncs before it acknowledges, and has room.
async fn synced(
    connection: &Connection,
    expected: &Expected,
    peers: &[String],
    findings: &mut Vec<Finding>,
) {
    let mut seen: BTreeMap<String, Server> = BTreeMap::new();
    for address in &expected.monitors {
        match monitor::ask(address, ASK_WAIT).await {
            Ok(found) => seen.extend([found]),
            Err(error) => {
                let text = format!("the monitoring address {address} does not answer: {error}");
                let remedy = "start that server, or correct nats.monitors";
                findings.push(Finding::new("nats-monitor", Warning, text, remedy));
            }
        }
    }
    if seen.is_empty() {
        seen = monitor::ask_all(connection.client()).await;
    }
    for (name, server) in &seen {
        if !server.sync_always {
            let text = format!(
                "{name} acknowledges before it syncs to disk, which it does every {} s: a power \
                 failure loses what agents were told is stored",
                server.sync_interval.as_secs()
            );
            let remedy = "set sync_interval: always in the jetstream block of its configuration";
            findings.push(Finding::new("nats-sync", Fault, text, remedy));
        }
        if server.max_bytes > 0 {
            full(&format!("the store of {name}"), server.used_bytes, server.max_bytes, findings);
            if server.reserved_bytes > server.max_bytes {
                let text = format!("streams may grow beyond the store of {name}");
                let remedy = "raise max_file_store, or lower stream.quota";
                findings.push(Finding::new("nats-room", Warning, text, remedy));
            }
        }
    }
    let own = connection.client().server_info().server_name;
    let all = if peers.is_empty() { std::slice::from_ref(&own) } else { peers };
    let unseen: Vec<&str> =
        all.iter().filter(|name| !seen.contains_key(*name)).map(String::as_str).collect();
    if !unseen.is_empty() {
        let text = format!(
            "whether {} syncs to disk before it acknowledges cannot be seen from here",
            unseen.join(", ")
        );
        let remedy = "list the servers' monitoring addresses in nats.monitors";
        findings.push(Finding::new("nats-sync-unseen", Unverified, text, remedy));
    }
}

fn full(what: &str, used: u64, max: u64, findings: &mut Vec<Finding>) {
    let percent = u128::from(used) * 100 / u128::from(max.max(1));
    let severity = match percent {
        0..80 => return,
        80..90 => Warning,
        _ => Fault,
    };
    let text = format!("{what} is {percent} % full");
    let remedy = "see that workers run and keep up; else give it more room";
    findings.push(Finding::new("nats-full", severity, text, remedy));
}
