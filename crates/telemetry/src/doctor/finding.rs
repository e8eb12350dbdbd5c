//! What is wrong, and what to do.

use serde::{Deserialize, Serialize};

use crate::report::Volume;

/// Ids of findings. They are for scripts too: one is never given another meaning.
pub mod id {
    /// A certificate has ended or will soon.
    pub const CERTIFICATE_EXPIRY: &str = "certificate-expiry";
    /// The name people use is not in the certificate.
    pub const CERTIFICATE_NAME: &str = "certificate-name";
    /// A clock is off.
    pub const CLOCK: &str = "clock-skew";
    /// A trusted proxy does not say for whom it asks.
    pub const PROXY_HEADER: &str = "proxy-header";
    /// A proxy says for whom it asks, and is not trusted.
    pub const PROXY_UNTRUSTED: &str = "proxy-untrusted";
    /// Too few open files.
    pub const OPEN_FILES: &str = "open-files";
    /// NATS acknowledges before it is on disk.
    pub const NATS_SYNC: &str = "nats-sync";
    /// Too few copies in NATS.
    pub const NATS_REPLICAS: &str = "nats-replicas";
    /// PostgreSQL acknowledges before it is on disk.
    pub const POSTGRES_DURABILITY: &str = "postgres-durability";
    /// PostgreSQL's standbys are all asynchronous.
    pub const POSTGRES_STANDBY: &str = "postgres-standby";
    /// The archive cannot be written.
    pub const ARCHIVE_WRITE: &str = "archive-write";
    /// The archive replaces objects that exist.
    pub const ARCHIVE_CREATE: &str = "archive-create";
    /// Less disk is free than is reserved.
    pub const DISK: &str = "disk-reserve";
    /// Intake has stopped.
    pub const STREAM_STOPPED: &str = "stream-stopped";
    /// An instance has another secret key.
    pub const SECRET_KEY: &str = "secret-key";
    /// Instances have different configurations.
    pub const CONFIG_DRIFT: &str = "config-drift";
    /// Instances run different versions.
    pub const VERSION_SPREAD: &str = "version-spread";
    /// An upgrade is not finished.
    pub const CONTRACT_PENDING: &str = "contract-pending";
    /// A worker is behind.
    pub const SHARD_LAG: &str = "shard-lag";
    /// Records of a shard are gone.
    pub const SHARD_GAP: &str = "shard-gap";
    /// Nobody does some work.
    pub const NO_HOLDER: &str = "no-holder";
    /// A live instance reports nothing.
    pub const NO_REPORT: &str = "no-report";
    /// The configuration is not one.
    pub const CONFIGURATION: &str = "configuration";
    /// The catalog cannot be used.
    pub const CATALOG: &str = "catalog";
    /// The audit log was changed.
    pub const AUDIT: &str = "audit-chain";
    /// Program and server are of different versions.
    pub const CLIENT_VERSION: &str = "client-version";
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind, from [`id`].
    pub id: String,
    /// The instance it is about, by name; `None`: about all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What is wrong, with the numbers.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A finding about the installation.
    #[must_use]
    pub fn new(id: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id: id.to_owned(), instance: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// The same about one instance.
    #[must_use]
    pub fn of(self, instance: &str) -> Self {
        Self { instance: Some(instance.to_owned()), ..self }
    }

    /// Less disk is free than is reserved.
    #[must_use]
    pub fn disk(volume: &Volume) -> Self {
        let (free, reserve) = (volume.free_bytes >> 20, volume.reserve_bytes >> 20);
        Self::new(
            id::DISK,
            format!(
                "the volume of {} ({}) has {free} MiB free, less than the reserve of {reserve} MiB: \
                 intake stops",
                volume.holds, volume.path
            ),
            "free or add disk; agents keep their rows until then. stream.reserve sets the reserve",
        )
    }

    /// The catalog cannot be used.
    #[must_use]
    pub fn catalog(error: &muster_catalog::Error) -> Self {
        let problem = format!("the catalog cannot be used: {error}");
        Self::new(id::CATALOG, problem, "see that the database runs and that catalog.url is right")
    }
}
