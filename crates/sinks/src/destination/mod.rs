//! Where rows go. Each kind says what became of every row it was given.

mod elastic;
mod file;
mod guard;
mod http;
mod splunk;
mod stdout;
mod syslog;
mod tls;
mod webhook;

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use crate::event::Event;
use crate::{Destination, Sink};

pub(crate) use guard::literal;
pub(crate) use tls::roots;

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there.
    Taken,
    /// It will never be taken, and why.
    Refused(String),
    /// It may be taken later, and why not now.
    Again(String),
}

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The destination is away, busy or set up otherwise: the same may be taken later.
    Failed {
        /// In its words.
        message: String,
        /// When it asks to be tried again.
        retry_after: Option<Duration>,
    },
    /// It does not take these rows as they stand; at least one of them is why.
    Rejected(String),
}

impl SendError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), retry_after: None }
    }
}

/// What was answered for each row, in order.
pub(crate) type Sent = Result<Vec<Verdict>, SendError>;

/// All rows are there.
pub(crate) fn all_taken(events: &[Event]) -> Vec<Verdict> {
    vec![Verdict::Taken; events.len()]
}

/// A destination, ready to be sent to. Connects when it is first used.
pub(crate) enum Sender {
    File(file::File),
    Stdout,
    Syslog(Box<syslog::Syslog>),
    Webhook(webhook::Webhook),
    Splunk(splunk::Splunk),
    Elastic(elastic::Elastic),
}

impl Sender {
    /// A sender of a sink; `folder` is where files go.
    ///
    /// # Errors
    /// In words for people, when what was set cannot be used.
    pub(crate) fn open(
        sink: &Sink,
        secret: Option<&SecretString>,
        folder: &Path,
    ) -> Result<Self, String> {
        let timeout = Duration::from_secs(sink.batch.timeout_seconds.into());
        Ok(match &sink.destination {
            Destination::File { file, rotate_bytes, keep } => {
                let recent = 2 * u64::from(sink.batch.bytes);
                Self::File(file::File::new(folder, file, *rotate_bytes, *keep, recent))
            }
            Destination::Stdout {} => Self::Stdout,
            Destination::Syslog { address, transport, facility, ca_pem, allow_private } => {
                let to = syslog::Target::new(address, *transport, *facility, *allow_private);
                let syslog = syslog::Syslog::new(to, ca_pem.as_deref(), timeout)?;
                Self::Syslog(Box::new(syslog))
            }
            Destination::Webhook { url, format, secret_header, ca_pem, allow_private } => {
                let http = http::Http::new(ca_pem.as_deref(), *allow_private, timeout)?;
                let header = secret_header.as_deref();
                Self::Webhook(webhook::Webhook::new(
                    http, url, &sink.name, *format, header, secret,
                )?)
            }
            Destination::Splunk { url, index, source, sourcetype, ca_pem, allow_private } => {
                let http = http::Http::new(ca_pem.as_deref(), *allow_private, timeout)?;
                let named = splunk::Named {
                    index: index.clone(),
                    source: source.clone(),
                    sourcetype: sourcetype.clone(),
                };
                Self::Splunk(splunk::Splunk::new(http, url, named, secret)?)
            }
            Destination::Elastic { url, index, auth, ca_pem, allow_private } => {
                let http = http::Http::new(ca_pem.as_deref(), *allow_private, timeout)?;
                Self::Elastic(elastic::Elastic::new(http, url, index, *auth, secret)?)
            }
        })
    }

    /// Sends rows, all of them or as many as the destination takes.
    ///
    /// # Cancel safety
    /// Dropped half way, any of the rows may have been taken: they are sent again.
    pub(crate) async fn send(&mut self, events: &[Event]) -> Sent {
        match self {
            Self::File(file) => file.send(events).await,
            Self::Stdout => stdout::send(events).await,
            Self::Syslog(syslog) => syslog.send(events).await,
            Self::Webhook(webhook) => webhook.send(events).await,
            Self::Splunk(splunk) => splunk.send(events).await,
            Self::Elastic(elastic) => elastic.send(events).await,
        }
    }

    /// Sends an event that tells of nothing. A file and standard output are only looked at.
    pub(crate) async fn test(&mut self, event: Event) -> Result<(), String> {
        let sent = match self {
            Self::File(file) => return file.test().await,
            Self::Stdout => return Ok(()),
            _ => self.send(&[event]).await,
        };
        match sent {
            Ok(verdicts) => match verdicts.into_iter().next() {
                Some(Verdict::Refused(why) | Verdict::Again(why)) => Err(why),
                Some(Verdict::Taken) | None => Ok(()),
            },
            Err(SendError::Failed { message, .. } | SendError::Rejected(message)) => Err(message),
        }
    }
}
