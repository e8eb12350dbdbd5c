//! The planes that are on NATS: stream and bus, each with a connection of its own.

use std::sync::Arc;

use anyhow::Context;
use muster_backup::Standing;
use muster_bus::nats::{HintKey, NatsBus};
use muster_nats::{Expected, Options};
use muster_stream::jetstream::{Begin, JetStream, JetStreamOptions, stream_names};
use muster_telemetry::doctor::Finding;

use super::names;

use crate::config::Config;

/// What of an installation is on NATS.
#[derive(Clone, Default)]
pub struct NatsPlanes {
    /// Facts in flight.
    pub stream: Option<Arc<JetStream>>,
    /// Hints.
    pub bus: Option<Arc<NatsBus>>,
}

/// Whether a URL is one of NATS.
pub fn is_nats(url: &str) -> bool {
    url.starts_with("nats://") || url.starts_with("tls://")
}

/// The URL of a bus on NATS: its own, or the stream's when nothing is said.
pub fn bus_url(config: &Config) -> Option<&str> {
    let url = config.bus.url.as_deref().or(config.stream.url.as_deref())?;
    is_nats(url).then_some(url)
}

/// How NATS is reached; `part` tells connections apart on the servers.
pub fn options(config: &Config, url: &str, part: &str) -> Options {
    let host = names::host_name().unwrap_or_else(|| "muster".to_owned());
    let nats = &config.nats;
    Options {
        user: nats.user.clone(),
        password_file: nats.password_file.clone(),
        credentials_file: nats.credentials_file.clone(),
        ca: nats.ca.clone(),
        certificate: nats.certificate.clone(),
        key: nats.key.clone(),
        ..Options::new(url, format!("muster {part} on {host}"))
    }
}

/// What `muster doctor` holds the servers to.
pub fn expected(config: &Config) -> Expected {
    Expected {
        replicas: config.nats.replicas,
        streams: stream_names(&config.nats.subject_prefix),
        monitors: config.nats.monitors.clone(),
    }
}

/// Opens the stream. One that is away is none to give up for.
///
/// # Errors
/// What waiting does not mend.
pub async fn open_stream(
    config: &Config,
    url: &str,
    standing: &Standing,
) -> anyhow::Result<Arc<JetStream>> {
    let begin = match standing.new_stream() {
        Ok(None) => Begin::AtStart,
        Ok(Some(floor)) => Begin::Above { floor, shards: standing.shards.clone() },
        Err(refused) => Begin::Refused(refused.to_string()),
    };
    let options = JetStreamOptions {
        connection: options(config, url, "stream"),
        prefix: config.nats.subject_prefix.clone(),
        replicas: config.nats.replicas,
        quota_bytes: config.stream.quota.0,
        begin,
    };
    JetStream::open(options).await.context("open the stream on NATS")
}

/// Opens the bus. One that is away is none to give up for.
///
/// # Errors
/// What waiting does not mend.
pub async fn open_bus(
    config: &Config,
    url: &str,
    key: HintKey,
    capacity: usize,
) -> anyhow::Result<Arc<NatsBus>> {
    let options = options(config, url, "bus");
    let bus = NatsBus::open(options, &config.nats.subject_prefix, key, capacity).await;
    bus.context("open the bus on NATS")
}

/// What is wrong with the servers of the stream; nothing when it is not on NATS.
pub async fn findings(config: &Config) -> Vec<Finding> {
    let Some(url) = config.stream.url.as_deref().filter(|url| is_nats(url)) else {
        return Vec::new();
    };
    match muster_nats::connect(&options(config, url, "doctor")).await {
        Ok(connection) => {
            let found = muster_nats::durability(&connection, &expected(config)).await;
            found.into_iter().map(finding).collect()
        }
        Err(error) => {
            let problem = format!("NATS cannot be reached: {error}");
            vec![Finding::new("nats-away", problem, "start it, or correct stream.url and nats")]
        }
    }
}

fn finding(found: muster_nats::Finding) -> Finding {
    Finding::new(found.code, found.text, found.remedy)
}
