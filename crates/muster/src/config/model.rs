//! The sections of the configuration file, with their defaults.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listen::Listen;
use super::network::Network;
use super::units::{Size, Span};

/// Everything a server can be told. One file serves every machine of an installation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder for everything this instance keeps: identity, keys, and the embedded stores.
    pub data_dir: PathBuf,
    /// What this instance does.
    pub roles: Vec<RoleName>,
    /// Names and addresses to put into the server certificate, besides those of the machine.
    pub names: Vec<String>,
    /// Where small mutable facts live.
    pub catalog: CatalogConfig,
    /// Where facts in flight live.
    pub stream: StreamConfig,
    /// Where facts at rest live.
    pub archive: ArchiveConfig,
    /// How hints travel.
    pub bus: BusConfig,
    /// Ports.
    pub listeners: Listeners,
    /// Certificates.
    pub tls: TlsConfig,
    /// What agents may do to us.
    pub agents: AgentsConfig,
    /// Limits of SQL over results.
    pub sql: SqlConfig,
    /// How long rows are kept.
    pub retention: RetentionConfig,
    /// When a second person is needed.
    pub approvals: ApprovalsConfig,
    /// What is logged and how.
    pub log: LogConfig,
}

/// What an instance does.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Every role.
    All,
    /// Talks with agents.
    Frontend,
    /// Folds the stream into segments, compacts and retires them.
    Worker,
    /// Recruits for hunts.
    Scheduler,
    /// Serves people and programs.
    Api,
}

/// The catalog.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// `sqlite:///absolute/path` or `postgres://user:password@host/database`. Default: SQLite in the data folder.
    pub url: Option<String>,
}

/// The stream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// `log:///absolute/dir` (embedded). Default: in the data folder.
    pub url: Option<String>,
    /// Most it may hold; at most a quarter of its volume is used in any case.
    pub quota: Size,
    /// Below this much free disk intake stops while workers still drain.
    pub reserve: Size,
}

/// The archive.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// `file:///absolute/dir` (may be shared over NFS), `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`. Default: in the data folder.
    pub url: Option<String>,
    /// How the object store is reached.
    pub s3: S3Config,
}

/// An object store. What is left out comes from the environment (`AWS_ACCESS_KEY_ID` and so on) or from
/// the machine's identity in its cloud.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Its address, when it is not Amazon's: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Who asks; needs `secret_access_key_file`.
    pub access_key_id: Option<String>,
    /// File with the secret for `access_key_id`. Read at start.
    pub secret_access_key_file: Option<PathBuf>,
    /// Whether plain HTTP is allowed.
    pub allow_http: bool,
    /// Whether the bucket is named in the path. Default: yes with an `endpoint`, no without.
    pub path_style: Option<bool>,
}

/// The bus.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `local:` (in process).
    pub url: String,
}

/// Ports. Each may be a range (`[::]:8443-8449`): the first free one is taken, so several copies
/// run on one host from the same file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// For people and programs: REST.
    pub operators: Listen,
    /// Proxies in front of the operators' listener, by address, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// For agents.
    pub agents: Listen,
    /// Metrics and health, plain HTTP. Not reachable from outside by default.
    pub metrics: Listen,
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

/// Limits of SQL over results. Each query runs in a child process of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqlConfig {
    /// Memory of one query.
    pub memory: Size,
    /// Time of one query.
    pub time: Span,
    /// Rows of one answer.
    pub rows: u64,
    /// Queries at once; more wait.
    pub concurrent: usize,
}

/// How long rows are kept, by class. Holds override it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Rows somebody asked for.
    pub collected: Span,
    /// Rows agents send on a schedule.
    pub scheduled: Span,
    /// How long a replaced object stays readable; must exceed `sql.time`.
    pub grace: Span,
}

/// When a second person is needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalsConfig {
    /// Hunts on more endpoints than this wait for a second person. Default: never.
    pub hunt_above_endpoints: Option<u64>,
}

/// Logging.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,muster_stream=debug`.
    pub level: String,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: default_data_dir(),
            roles: vec![RoleName::All],
            names: Vec::new(),
            catalog: CatalogConfig::default(),
            stream: StreamConfig::default(),
            archive: ArchiveConfig::default(),
            bus: BusConfig::default(),
            listeners: Listeners::default(),
            tls: TlsConfig::default(),
            agents: AgentsConfig::default(),
            sql: SqlConfig::default(),
            retention: RetentionConfig::default(),
            approvals: ApprovalsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { url: None, quota: Size::gib(8), reserve: Size::gib(1) }
    }
}

impl Default for BusConfig {
    fn default() -> Self {
        Self { url: "local:".into() }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        let listen = |text: &str| text.parse().expect("the default listeners are well formed");
        Self {
            operators: listen("[::]:8443-8449"),
            trusted_proxies: Vec::new(),
            agents: listen("[::]:8453-8459"),
            metrics: listen("127.0.0.1:9443-9449"),
        }
    }
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

impl Default for SqlConfig {
    fn default() -> Self {
        Self {
            memory: Size::gib(2),
            time: Span(std::time::Duration::from_secs(120)),
            rows: 1_000_000,
            concurrent: 4,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let days = |n: u64| Span(std::time::Duration::from_secs(n * 86_400));
        Self {
            collected: days(365),
            scheduled: days(90),
            grace: Span(std::time::Duration::from_secs(30 * 60)),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// `/var/lib/muster` for root, else the user's data folder.
fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/muster".into();
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    std::env::var_os("XDG_DATA_HOME")
        .map_or_else(|| home.join(".local/share"), PathBuf::from)
        .join("muster")
}

/// Removed or renamed keys, with what to do instead. Empty until one is.
pub fn removed_keys() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::new()
}
