//! `muster sink add …`: one subcommand for each kind of destination.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::account::read_secret;
use super::plain::read_file;
use crate::client::CliError;

/// `muster sink add KIND …`.
#[derive(Subcommand)]
pub enum Add {
    /// A file in the server's folder for sinks, a JSON row a line.
    File {
        /// What is the same for all kinds.
        #[command(flatten)]
        common: Common,
        /// The file's name; a name only, no path.
        file: String,
        /// Put the file aside when it is this long, in bytes.
        #[arg(long)]
        rotate_bytes: Option<u64>,
        /// Keep so many that were put aside.
        #[arg(long)]
        keep: Option<u32>,
    },
    /// Standard output of the server, a JSON row a line.
    Stdout {
        /// What is the same for all kinds.
        #[command(flatten)]
        common: Common,
    },
    /// Syslog (RFC 5424).
    Syslog {
        /// What is the same for all kinds.
        #[command(flatten)]
        common: Common,
        /// host:port.
        address: String,
        /// udp, tcp or tls.
        #[arg(long, default_value = "tcp")]
        transport: String,
        /// Facility, 0 to 23.
        #[arg(long)]
        facility: Option<u8>,
        /// Whom to trust and where to send.
        #[command(flatten)]
        network: Network,
    },
    /// POST to any address, as JSON lines or an array.
    Webhook {
        /// What is the same for all kinds.
        #[command(flatten)]
        common: Common,
        /// https://…
        url: String,
        /// ndjson or array.
        #[arg(long, default_value = "ndjson")]
        format: String,
        /// Show the secret in this header instead of `Authorization: Bearer`.
        #[arg(long)]
        secret_header: Option<String>,
        /// Whom to trust and where to send.
        #[command(flatten)]
        network: Network,
    },
    /// Splunk's HTTP event collector; the secret is its token.
    Splunk {
        /// What is the same for all kinds.
        #[command(flatten)]
        common: Common,
        /// https://host:8088
        url: String,
        /// Index; the token's own without it.
        #[arg(long)]
        index: Option<String>,
        /// Source of the events.
        #[arg(long)]
        source: Option<String>,
        /// Source type of the events.
        #[arg(long)]
        sourcetype: Option<String>,
        /// Whom to trust and where to send.
        #[command(flatten)]
        network: Network,
    },
    /// Elasticsearch or OpenSearch, by the bulk interface.
    Elastic {
        /// What is the same for all kinds.
        #[command(flatten)]
        common: Common,
        /// https://host:9200
        url: String,
        /// Index or data stream; {table} stands for the row's table.
        #[arg(long)]
        index: Option<String>,
        /// api_key (the secret is an encoded API key) or basic (user:password).
        #[arg(long, default_value = "api_key")]
        auth: String,
        /// Whom to trust and where to send.
        #[command(flatten)]
        network: Network,
    },
}

/// Flags of all kinds.
#[derive(Args)]
pub struct Common {
    /// Its name.
    pub name: String,
    /// Only this table or artifact, * for any characters (repeatable).
    #[arg(long = "table")]
    pub tables: Vec<String>,
    /// Only endpoints with this label (repeatable: one of them is enough).
    #[arg(long = "label")]
    pub labels: Vec<String>,
    /// Rows of one request.
    #[arg(long)]
    pub batch_rows: Option<u32>,
    /// Bytes of one request.
    #[arg(long)]
    pub batch_bytes: Option<u32>,
    /// Seconds that one request may take.
    #[arg(long)]
    pub timeout_seconds: Option<u32>,
    /// Read a secret (token, API key, password) from standard input, or ask for it on a terminal.
    #[arg(long)]
    pub secret: bool,
}

/// Flags of kinds that send over a network.
#[derive(Args)]
pub struct Network {
    /// Trust the certificates in this PEM file instead of the public ones.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Private and loopback addresses are fine, and plain HTTP to them.
    #[arg(long)]
    pub allow_private: bool,
}

fn destination(add: Add) -> Result<(Common, Value), CliError> {
    Ok(match add {
        Add::File { common, file, rotate_bytes, keep } => {
            let to = json!({
                "kind": "file", "file": file, "rotate_bytes": rotate_bytes, "keep": keep,
            });
            (common, to)
        }
        Add::Stdout { common } => (common, json!({"kind": "stdout"})),
        Add::Syslog { common, address, transport, facility, network } => {
            let to = json!({
                "kind": "syslog", "address": address, "transport": transport, "facility": facility,
            });
            (common, with(network, to)?)
        }
        Add::Webhook { common, url, format, secret_header, network } => {
            let to = json!({
                "kind": "webhook", "url": url, "format": format, "secret_header": secret_header,
            });
            (common, with(network, to)?)
        }
        Add::Splunk { common, url, index, source, sourcetype, network } => {
            let to = json!({
                "kind": "splunk", "url": url, "index": index, "source": source,
                "sourcetype": sourcetype,
            });
            (common, with(network, to)?)
        }
        Add::Elastic { common, url, index, auth, network } => {
            let to = json!({"kind": "elastic", "url": url, "index": index, "auth": auth});
            (common, with(network, to)?)
        }
    })
}

fn with(network: Network, mut destination: Value) -> Result<Value, CliError> {
    destination["allow_private"] = network.allow_private.into();
    if let Some(path) = network.ca {
        destination["ca_pem"] = read_file(&path)?.into();
    }
    Ok(destination)
}

/// What was not given is left to the server.
fn given(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, member| !member.is_null());
    }
    value
}

/// What is sent to make it.
pub fn body(add: Add) -> Result<Value, CliError> {
    let (common, destination) = destination(add)?;
    let batch = json!({
        "rows": common.batch_rows, "bytes": common.batch_bytes,
        "timeout_seconds": common.timeout_seconds,
    });
    let mut body = json!({
        "name": common.name,
        "destination": given(destination),
        "filter": {"tables": common.tables, "labels": common.labels},
        "batch": given(batch),
    });
    if common.secret {
        body["secret"] = read_secret("secret: ")?.into();
    }
    Ok(body)
}
