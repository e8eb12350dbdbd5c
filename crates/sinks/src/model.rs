//! What a sink is: where to, which rows, how much at once.

use muster_types::{OrgId, Timestamp};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Filter;

/// How syslog travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyslogTransport {
    /// One datagram a row (RFC 5426). Nobody notices what is lost.
    Udp,
    /// Octet counting (RFC 6587).
    #[default]
    Tcp,
    /// The same inside TLS (RFC 5425).
    Tls,
}

/// How rows stand in the body for a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// One JSON array.
    Array,
}

/// How the secret is shown to Elasticsearch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ElasticAuth {
    /// An API key in its encoded form.
    #[default]
    ApiKey,
    /// `user:password`.
    Basic,
}

/// Where rows are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Destination {
    /// A file in the folder for sinks of the instance that works this one; a row a line.
    File {
        /// Its name in that folder.
        file: String,
        /// A file this long is put aside. Default 100 MiB.
        #[serde(default = "rotate_bytes")]
        rotate_bytes: u64,
        /// How many are kept aside. Default 5.
        #[serde(default = "keep")]
        keep: u32,
    },
    /// Standard output of the instance that works the sink; a row a line.
    Stdout {},
    /// Syslog (RFC 5424).
    Syslog {
        /// `host:port`.
        address: String,
        /// How it travels. Default `tcp`.
        #[serde(default)]
        transport: SyslogTransport,
        /// Facility, 0 to 23. Default 16 (local0).
        #[serde(default = "facility")]
        facility: u8,
        /// Certificates to trust instead of the public ones, as PEM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_pem: Option<String>,
        /// Whether private and loopback addresses are fine.
        #[serde(default)]
        allow_private: bool,
    },
    /// POST of rows to any address.
    Webhook {
        /// `https://…`.
        url: String,
        /// How rows stand in the body. Default `ndjson`.
        #[serde(default)]
        format: WebhookFormat,
        /// The header that shows the secret. Without one it is `Authorization: Bearer …`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret_header: Option<String>,
        /// Certificates to trust instead of the public ones, as PEM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_pem: Option<String>,
        /// Whether private and loopback addresses, and plain HTTP to them, are fine.
        #[serde(default)]
        allow_private: bool,
    },
    /// Splunk's HTTP event collector. The secret is its token.
    Splunk {
        /// `https://host:8088`, or with the path of the collector.
        url: String,
        /// Index; the token's own without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<String>,
        /// Default `muster`.
        #[serde(default = "source")]
        source: String,
        /// Default `_json`.
        #[serde(default = "sourcetype")]
        sourcetype: String,
        /// Certificates to trust instead of the public ones, as PEM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_pem: Option<String>,
        /// Whether private and loopback addresses, and plain HTTP to them, are fine.
        #[serde(default)]
        allow_private: bool,
    },
    /// The bulk interface of Elasticsearch or OpenSearch.
    Elastic {
        /// `https://host:9200`, or with a path before `_bulk`.
        url: String,
        /// Index or data stream; `{table}` stands for the row's table. Default `muster-{table}`.
        #[serde(default = "index")]
        index: String,
        /// How the secret is shown. Default `api_key`.
        #[serde(default)]
        auth: ElasticAuth,
        /// Certificates to trust instead of the public ones, as PEM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_pem: Option<String>,
        /// Whether private and loopback addresses, and plain HTTP to them, are fine.
        #[serde(default)]
        allow_private: bool,
    },
}

fn rotate_bytes() -> u64 {
    100 << 20
}

fn keep() -> u32 {
    5
}

fn facility() -> u8 {
    16
}

fn source() -> String {
    "muster".to_owned()
}

fn sourcetype() -> String {
    "_json".to_owned()
}

fn index() -> String {
    "muster-{table}".to_owned()
}

/// How much is sent at once, and how long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Rows of one request, 1 to 10000.
    pub rows: u32,
    /// Bytes of one request, 4 KiB to 16 MiB; one row alone may be longer.
    pub bytes: u32,
    /// Time for one request, 1 to 300 seconds.
    pub timeout_seconds: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { rows: 500, bytes: 1 << 20, timeout_seconds: 30 }
    }
}

/// A sink to be made.
#[derive(Clone, Debug)]
pub struct NewSink {
    /// 1 to 64 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Where to.
    pub destination: Destination,
    /// Which rows.
    pub filter: Filter,
    /// How much at once.
    pub batch: Batch,
    /// Token, API key or password.
    pub secret: Option<SecretString>,
}

/// A sink, without its secret.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its number, never reused.
    pub no: i64,
    /// Whose.
    pub org: OrgId,
    /// Its name, unique in the organisation.
    pub name: String,
    /// Where to.
    pub destination: Destination,
    /// Which rows.
    pub filter: Filter,
    /// How much at once.
    pub batch: Batch,
    /// Whether it has a secret.
    pub has_secret: bool,
    /// Whether a person stopped it.
    pub paused: bool,
    /// When it was made; rows committed before are none of its.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// The column `settings`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub destination: Destination,
    pub batch: Batch,
}

impl Destination {
    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Stdout {} => "stdout",
            Self::Syslog { .. } => "syslog",
            Self::Webhook { .. } => "webhook",
            Self::Splunk { .. } => "splunk",
            Self::Elastic { .. } => "elastic",
        }
    }

    /// Where it leads, for people.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::File { file, .. } => file,
            Self::Stdout {} => "-",
            Self::Syslog { address, .. } => address,
            Self::Webhook { url, .. } | Self::Splunk { url, .. } | Self::Elastic { url, .. } => url,
        }
    }
}
