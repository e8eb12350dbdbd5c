//! The sections of the configuration file, with their defaults.

use std::collections::BTreeMap;
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
    /// How this instance is known to people and to the others.
    pub instance: InstanceConfig,
    /// Parts of jobs that this instance does and no other, as `shards: 2/3`. Jobs are shards, dispatch,
    /// schedule, compact, sinks and uploads. Mostly given per machine, as `MUSTER_PINS__SHARDS=2/3`.
    pub pins: BTreeMap<String, String>,
    /// How this instance ends.
    pub drain: DrainConfig,
    /// Where small mutable facts live.
    pub catalog: CatalogConfig,
    /// Where facts in flight live.
    pub stream: StreamConfig,
    /// Where facts at rest live.
    pub archive: ArchiveConfig,
    /// How hints travel.
    pub bus: BusConfig,
    /// How NATS is reached, when the stream or the bus is there.
    pub nats: NatsConfig,
    /// Ports.
    pub listeners: Listeners,
    /// Certificates.
    pub tls: TlsConfig,
    /// What people and programs may do to us.
    pub api: ApiConfig,
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
    /// Where traces go.
    pub telemetry: TelemetryConfig,
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

/// How an instance is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// Its name. Default: the host's, with a number from the second copy on one host on.
    pub name: Option<String>,
    /// Names or addresses (without ports) under which others reach it, in place of those of its network
    /// interfaces.
    pub advertise: Vec<String>,
}

/// How an instance ends after SIGTERM. A second signal ends it at once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// How long it goes on accepting after `/readyz` says that it goes, so that balancers notice. Longer
    /// than the interval of their health check; 0 where there is no balancer.
    pub delay: Span,
    /// Over how long its agents are moved to other instances, if there are any.
    pub spread: Span,
    /// When it ends in any case, finished or not. Longer than `delay` and `spread` together.
    pub time: Span,
}

/// The catalog.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// `sqlite:///absolute/path` or `postgres://user:password@host/database`. Default: SQLite in the data folder.
    /// Several PostgreSQL hosts (`h1:5432,h2:5432`): the one that takes writes is used, also after a fail-over.
    pub url: Option<String>,
    /// URLs of PostgreSQL servers that follow the primary. They are read where some seconds of delay do no
    /// harm, such as in the audit log; one that is too far behind is passed over.
    pub replicas: Vec<String>,
    /// Connections of one instance to PostgreSQL at once; on SQLite, for reading.
    pub connections: u32,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self { url: None, replicas: Vec::new(), connections: 16 }
    }
}

/// The stream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// `log:///absolute/dir` (embedded), `nats://host:4222,host:4222` or `tls://…`. Default: in the data
    /// folder.
    pub url: Option<String>,
    /// Most it may hold; of a volume of its own at most a quarter is used in any case.
    pub quota: Size,
    /// Below this much free disk intake stops while workers still drain. NATS has limits of its own.
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
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `nats://host:4222,host:4222`, `tls://…`, or `local:` (in process). Default: where the stream is, when
    /// that is NATS, else `local:`.
    pub url: Option<String>,
}

/// NATS, for stream and bus.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// File with a user's JWT and seed, as `nsc` writes it. Read at start.
    pub credentials_file: Option<PathBuf>,
    /// User name; needs `password_file`.
    pub user: Option<String>,
    /// File with the password for `user`. Read at start.
    pub password_file: Option<PathBuf>,
    /// File with the CA (PEM) of the servers' certificates. Default: the CAs of the machine.
    pub ca: Option<PathBuf>,
    /// File with a client certificate (PEM); needs `key`.
    pub certificate: Option<PathBuf>,
    /// File with its key (PEM).
    pub key: Option<PathBuf>,
    /// Copies of everything in the stream; needs as many servers. Used when streams are made.
    pub replicas: usize,
    /// Begins the names of subjects and streams; installations that share servers need different ones.
    pub subject_prefix: String,
    /// Monitoring addresses of the servers (`http://host:8222`), for `muster doctor`.
    pub monitors: Vec<String>,
}

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

/// Traces. Without a collector there are none, and they cost nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// A collector that takes OTLP over HTTP, as `http://127.0.0.1:4318`.
    pub otlp: Option<String>,
    /// Which part of all traces is sent, from 0 to 1. One that a trusted proxy has begun follows the
    /// proxy.
    pub sample: f64,
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
            instance: InstanceConfig::default(),
            pins: BTreeMap::new(),
            drain: DrainConfig::default(),
            catalog: CatalogConfig::default(),
            stream: StreamConfig::default(),
            archive: ArchiveConfig::default(),
            bus: BusConfig::default(),
            nats: NatsConfig::default(),
            listeners: Listeners::default(),
            tls: TlsConfig::default(),
            api: ApiConfig::default(),
            agents: AgentsConfig::default(),
            sql: SqlConfig::default(),
            retention: RetentionConfig::default(),
            approvals: ApprovalsConfig::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        let seconds = |n| Span(std::time::Duration::from_secs(n));
        Self { delay: seconds(0), spread: seconds(10), time: seconds(25) }
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { url: None, quota: Size::gib(8), reserve: Size::gib(1) }
    }
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            credentials_file: None,
            user: None,
            password_file: None,
            ca: None,
            certificate: None,
            key: None,
            replicas: 3,
            subject_prefix: "muster".into(),
            monitors: Vec::new(),
        }
    }
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

impl Default for ApiConfig {
    fn default() -> Self {
        Self { requests_per_second: 200, requests_burst: 1000 }
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

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { otlp: None, sample: 0.01 }
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
