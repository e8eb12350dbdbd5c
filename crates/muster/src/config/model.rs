//! The sections of the configuration file, with their defaults.

mod front;
mod results;
mod seeing;
mod stores;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;
pub use front::{AgentsConfig, ApiConfig, ListenerName, Listeners, OsqueryIdentifier, TlsConfig};
pub use results::{ApprovalsConfig, RetentionConfig, SqlConfig};
pub use seeing::{LogConfig, LogFormat, TelemetryConfig};
pub use stores::{ArchiveConfig, BusConfig, CatalogConfig, NatsConfig, StreamConfig};

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
