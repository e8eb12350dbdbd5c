//! POST of rows to any address.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::SecretString;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

use super::http::{ANSWER_BYTES_MAX, Http, secret_header};
use super::{Sent, all_taken};
use crate::WebhookFormat;
use crate::event::{ENVELOPE_VERSION, Event};

/// Rows as JSON lines or as an array. An answer of 2xx, or 409, is for all of them.
pub(crate) struct Webhook {
    http: Http,
    url: Url,
    format: WebhookFormat,
    headers: HeaderMap,
}

impl Webhook {
    pub(super) fn new(
        http: Http,
        url: &str,
        sink: &str,
        format: WebhookFormat,
        header: Option<&str>,
        secret: Option<&SecretString>,
    ) -> Result<Self, String> {
        let url = http.url(url)?;
        let mut headers = HeaderMap::new();
        let kind = match format {
            WebhookFormat::Ndjson => "application/x-ndjson",
            WebhookFormat::Array => "application/json",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert("muster-envelope", HeaderValue::from(ENVELOPE_VERSION));
        let sink = HeaderValue::from_str(sink).map_err(|error| error.to_string())?;
        headers.insert("muster-sink", sink);
        if let Some(secret) = secret {
            match header {
                None => headers.insert(header::AUTHORIZATION, secret_header("Bearer", secret)?),
                Some(name) => {
                    let name = HeaderName::from_bytes(name.as_bytes());
                    let name = name.map_err(|error| error.to_string())?;
                    headers.insert(name, secret_header("", secret)?)
                }
            };
        }
        Ok(Self { http, url, format, headers })
    }

    pub(super) async fn send(&mut self, events: &[Event]) -> Sent {
        let mut headers = self.headers.clone();
        if let Ok(key) = HeaderValue::from_str(&key_of(events)) {
            headers.insert("idempotency-key", key);
        }
        let body = body(self.format, events);
        let answer = self.http.post(&self.url, headers, body, ANSWER_BYTES_MAX).await?;
        answer.judge()?;
        Ok(all_taken(events))
    }
}

fn body(format: WebhookFormat, events: &[Event]) -> Vec<u8> {
    let (open, between, close) = match format {
        WebhookFormat::Ndjson => ("", "\n", "\n"),
        WebhookFormat::Array => ("[", ",", "]"),
    };
    let mut body = open.as_bytes().to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.extend_from_slice(between.as_bytes());
        }
        body.extend_from_slice(&event.body);
    }
    body.extend_from_slice(close.as_bytes());
    body
}

/// The same for the same rows.
fn key_of(events: &[Event]) -> String {
    let mut hash = Xxh3::new();
    for event in events {
        hash.update(event.id.as_bytes());
        hash.update(b"\n");
    }
    hex::encode(hash.digest128().to_be_bytes())
}
