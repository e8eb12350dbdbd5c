//! What a sink is: where to, which rows, how much at once.

use muster_types::{OrgId, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::{Filter, Refusal};

/// Longest name of a sink.
const NAME_MAX: usize = 64;
/// Most patterns and labels of a filter.
const WORDS_MAX: usize = 100;
/// Longest text of a setting; a bundle of CA certificates fits.
const TEXT_MAX: usize = 64 << 10;

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

impl NewSink {
    /// Whether all of it can be; the destination is not asked.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for the first thing that cannot.
    pub fn check(&self) -> Result<(), Refusal> {
        let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let named = |name: &str| {
            !name.is_empty()
                && name.len() <= NAME_MAX
                && name.chars().all(word)
                && !name.starts_with('.')
        };
        if !named(&self.name) {
            let message = "take 1 to 64 letters, digits, '.', '_' and '-' as the name";
            return Err(Refusal::invalid("/name", message));
        }
        let words = || self.filter.tables.iter().chain(&self.filter.labels);
        if words().count() > WORDS_MAX || words().any(|w| w.is_empty() || w.len() > 256) {
            let message = "a filter has at most 100 tables and labels of 1 to 256 bytes";
            return Err(Refusal::invalid("/filter", message));
        }
        let Batch { rows, bytes, timeout_seconds } = self.batch;
        let fits = (1..=10_000).contains(&rows)
            && (4 << 10..=16 << 20).contains(&bytes)
            && (1..=300).contains(&timeout_seconds);
        if !fits {
            let message =
                "a batch has 1 to 10000 rows, 4 KiB to 16 MiB, and 1 to 300 seconds of time";
            return Err(Refusal::invalid("/batch", message));
        }
        self.check_secret()?;
        match &self.destination {
            Destination::File { file, rotate_bytes, .. } => {
                if !named(file) {
                    let message = "name a file, not a path: it is kept in the folder for sinks";
                    return Err(Refusal::invalid("/destination/file", message));
                }
                if *rotate_bytes < 4 << 10 {
                    let message = "files are put aside at 4 KiB at the least";
                    return Err(Refusal::invalid("/destination/rotate_bytes", message));
                }
                Ok(())
            }
            Destination::Stdout {} => Ok(()),
            Destination::Syslog { address, facility, ca_pem, .. } => {
                let (host, port) = address.rsplit_once(':').unwrap_or_default();
                if host.is_empty() || port.parse::<u16>().is_err() || address.len() > 300 {
                    let message = "write host:port; syslog inside TLS is mostly at port 6514";
                    return Err(Refusal::invalid("/destination/address", message));
                }
                if *facility > 23 {
                    let message = "a facility is a number from 0 to 23";
                    return Err(Refusal::invalid("/destination/facility", message));
                }
                check_pem(ca_pem.as_deref())
            }
            Destination::Webhook { url, secret_header, ca_pem, allow_private, .. } => {
                if let Some(name) = secret_header
                    && http::HeaderName::from_bytes(name.as_bytes()).is_err()
                {
                    let message = "this is no name of a header";
                    return Err(Refusal::invalid("/destination/secret_header", message));
                }
                check_url(url, *allow_private)?;
                check_pem(ca_pem.as_deref())
            }
            Destination::Splunk { url, ca_pem, allow_private, .. } => {
                if self.secret.is_none() {
                    let message = "an event collector asks for its token: give it as the secret";
                    return Err(Refusal::invalid("/secret", message));
                }
                check_url(url, *allow_private)?;
                check_pem(ca_pem.as_deref())
            }
            Destination::Elastic { url, index, ca_pem, allow_private, .. } => {
                let plain = index.replace("{table}", "t");
                let good = !plain.is_empty()
                    && plain.len() <= 200
                    && !plain.starts_with(['-', '_', '+', '.'])
                    && plain.chars().all(|c| {
                        c.is_ascii_lowercase() || c.is_ascii_digit() || "-_+.".contains(c)
                    });
                if !good {
                    let message = "an index has lower-case letters, digits, '-', '_', '+', '.' and \
                                   {table}, and begins with a letter or digit";
                    return Err(Refusal::invalid("/destination/index", message));
                }
                check_url(url, *allow_private)?;
                check_pem(ca_pem.as_deref())
            }
        }
    }

    fn check_secret(&self) -> Result<(), Refusal> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let secret = secret.expose_secret();
        let visible = |b: u8| (0x20..0x7f).contains(&b);
        if secret.is_empty() || secret.len() > 4096 || !secret.bytes().all(visible) {
            let message = "a secret has 1 to 4096 printable ASCII characters";
            return Err(Refusal::invalid("/secret", message));
        }
        let basic =
            matches!(self.destination, Destination::Elastic { auth: ElasticAuth::Basic, .. });
        if basic && !secret.contains(':') {
            return Err(Refusal::invalid("/secret", "write user:password"));
        }
        Ok(())
    }
}

fn check_url(url: &str, allow_private: bool) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::invalid("/destination/url", message));
    let Ok(parsed) = Url::parse(url) else { return invalid("this is no URL") };
    if url.len() > 2048 || parsed.host().is_none() {
        return invalid("this is no URL of a host");
    }
    match parsed.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return invalid("plain HTTP is only for private addresses (allow_private)"),
        _ => return invalid("write https://…"),
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return invalid("a URL is shown to people: give name and password as the secret");
    }
    if parsed.fragment().is_some() {
        return invalid("a URL to send to has no fragment");
    }
    match crate::destination::literal(&parsed, allow_private) {
        Ok(()) => Ok(()),
        Err(why) => invalid(&why),
    }
}

fn check_pem(pem: Option<&str>) -> Result<(), Refusal> {
    let Some(pem) = pem else { return Ok(()) };
    if pem.len() > TEXT_MAX {
        return Err(Refusal::invalid("/destination/ca_pem", "this is more than 64 KiB"));
    }
    let roots = crate::destination::roots(Some(pem));
    roots.map(drop).map_err(|why| Refusal::invalid("/destination/ca_pem", why))
}
