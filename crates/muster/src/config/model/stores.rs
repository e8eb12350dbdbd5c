//! Where things are kept and how instances talk: catalog, stream, archive, bus.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Size;

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

impl Default for StreamConfig {
    fn default() -> Self {
        Self { url: None, quota: Size::gib(8), reserve: Size::gib(1) }
    }
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
