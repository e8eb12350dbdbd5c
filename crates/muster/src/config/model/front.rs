//! Who may connect and how: ports, certificates, bounds on people and agents.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::listen::Listen;
use crate::config::network::Network;
use crate::config::units::{Size, Span};

/// Ports. Each may be a range (`[::]:8443-8449`): the first free one is taken, so several copies
/// run on one host from the same file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// For people and programs: REST.
    pub operators: Listen,
    /// Proxies in front of the operators' listener, as networks (`10.0.0.0/8`), whose `X-Forwarded-For`
    /// is believed.
    pub trusted_proxies: Vec<Network>,
    /// For agents.
    pub agents: Listen,
    /// Balancers, as networks, that begin every connection with a PROXY header (version 1 or 2). Their
    /// connections must have one; nobody else's is believed.
    pub proxy_protocol: Vec<Network>,
    /// Listeners that this is about.
    pub proxy_protocol_on: Vec<ListenerName>,
    /// Listeners whose TLS may end at a balancer. Plain connections are taken from trusted proxies and
    /// from `proxy_protocol` only, so name one of them.
    pub plain: Vec<ListenerName>,
    /// Metrics and health, plain HTTP. Not reachable from outside by default.
    pub metrics: Listen,
}

impl Default for Listeners {
    fn default() -> Self {
        let listen = |text: &str| text.parse().expect("the default listeners are well formed");
        Self {
            operators: listen("[::]:8443-8449"),
            trusted_proxies: Vec::new(),
            agents: listen("[::]:8453-8459"),
            proxy_protocol: Vec::new(),
            proxy_protocol_on: vec![ListenerName::Operators, ListenerName::Agents],
            plain: Vec::new(),
            metrics: listen("127.0.0.1:9443-9449"),
        }
    }
}

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListenerName {
    /// The operators'.
    Operators,
    /// The agents'.
    Agents,
}

/// Certificates. Without any the installation's own CA issues one for every name of the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Own certificate chain (PEM) for the operators' listener; needs `key`.
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// File with the 32-byte key that seals secrets in the catalog. All instances need the same one.
    /// Default: made in the data folder.
    pub secret_key_file: Option<PathBuf>,
}

/// Bounds on people and programs, over all instances together.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Requests per second of one account.
    pub requests_per_second: u32,
    /// Requests of one account at once, after a rest.
    pub requests_burst: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { requests_per_second: 200, requests_burst: 1000 }
    }
}

/// Bounds on agents.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsConfig {
    /// Bytes of agents' messages in memory at once, over all connections.
    pub bytes_in_flight: Size,
    /// File with the CA (PEM) of agents' client certificates. With it an agent may present one; an
    /// enrolment secret can require it. Default: none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Connections at once; more are closed before their handshake.
    pub connections: u32,
    /// Connections of one address at once. Loopback and trusted proxies are exempt. Default: half of
    /// `connections`.
    pub connections_per_address: Option<u32>,
    /// Enrolments per second with a good secret, all together.
    pub enrolments_per_second: u32,
    /// Enrolments one address may try at once. Loopback and trusted proxies are exempt.
    pub enrolments_per_address: u32,
    /// Enrolments one address may try per second after that.
    pub enrolments_per_address_per_second: u32,
    /// What of an enrolment names a machine that runs osquery. With anything but `instance`, machines
    /// that share it are told apart by their instance, and shown as clones.
    pub osquery_identifier: OsqueryIdentifier,
    /// How often an idle link is probed.
    pub ping_interval: Span,
    /// Proxies in front of the agents' listener, as networks (`10.0.0.0/8`), whose `X-Forwarded-For` is
    /// believed.
    pub trusted_proxies: Vec<Network>,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            bytes_in_flight: Size::mib(256),
            client_ca: None,
            connections: 200_000,
            connections_per_address: None,
            enrolments_per_second: 200,
            enrolments_per_address: 100,
            enrolments_per_address_per_second: 20,
            osquery_identifier: OsqueryIdentifier::Provided,
            ping_interval: Span(std::time::Duration::from_secs(30)),
            trusted_proxies: Vec::new(),
        }
    }
}

/// What of an enrolment names a machine that runs osquery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OsqueryIdentifier {
    /// What the agent calls itself, by its flag `host_identifier`.
    #[default]
    Provided,
    /// The hardware's UUID.
    Uuid,
    /// The random identifier of the agent's database.
    Instance,
    /// The host name.
    Hostname,
}
