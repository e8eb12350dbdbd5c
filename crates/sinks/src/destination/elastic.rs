//! The bulk interface of Elasticsearch and OpenSearch.
//!
//! Every row is created under its id, so one that is there already is answered with a conflict and
//! counts as taken: a replay makes no double.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::http::{Http, secret_header};
use super::{SendError, Sent, Verdict};
use crate::ElasticAuth;
use crate::event::Event;

/// Rows as documents.
pub(crate) struct Elastic {
    http: Http,
    url: Url,
    index: String,
    headers: HeaderMap,
}

#[derive(Deserialize)]
struct Reply {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    #[serde(default)]
    error: serde_json::Value,
}

impl Elastic {
    pub(super) fn new(
        http: Http,
        url: &str,
        index: &str,
        auth: ElasticAuth,
        secret: Option<&SecretString>,
    ) -> Result<Self, String> {
        let mut url = http.url(url)?;
        let path = format!("{}/_bulk", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.query_pairs_mut()
            .append_pair("filter_path", "items.*.status,items.*.error.type,items.*.error.reason");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let Some(secret) = secret {
            let shown = match auth {
                ElasticAuth::ApiKey => secret_header("ApiKey", secret)?,
                ElasticAuth::Basic => {
                    let encoded = BASE64_STANDARD.encode(secret.expose_secret());
                    secret_header("Basic", &encoded.into())?
                }
            };
            headers.insert(header::AUTHORIZATION, shown);
        }
        Ok(Self { http, url, index: index.to_owned(), headers })
    }

    pub(super) async fn send(&mut self, events: &[Event]) -> Sent {
        let mut body = Vec::new();
        for event in events {
            let index = self.index.replace("{table}", &index_word(&event.table));
            let action = json!({"create": {"_index": index, "_id": event.id}});
            body.extend_from_slice(action.to_string().as_bytes());
            body.push(b'\n');
            body.extend_from_slice(&event.body);
            body.push(b'\n');
        }
        let answer = self.http.post(&self.url, self.headers.clone(), body).await?;
        match answer.judge() {
            Ok(()) => {}
            // Only its length can make a whole bulk one row's fault: each row is judged by itself.
            Err(SendError::Rejected(message)) if answer.status.as_u16() != 413 => {
                return Err(SendError::failed(message));
            }
            Err(other) => return Err(other),
        }
        let reply: Reply = serde_json::from_slice(&answer.body).map_err(|error| {
            SendError::failed(format!("this is no answer to a bulk: {error}: {}", answer.quoted()))
        })?;
        if reply.items.len() != events.len() {
            let message = format!("it answered for {} of {} rows", reply.items.len(), events.len());
            return Err(SendError::failed(message));
        }
        Ok(reply.items.iter().map(|item| judge(&item.create)).collect())
    }
}

/// 409: it is there already. What concerns rights, the index or the load is no document's fault.
fn judge(created: &Created) -> Verdict {
    let why = || {
        let part = |name: &str| created.error[name].as_str().unwrap_or_default().to_owned();
        match part("reason") {
            reason if reason.is_empty() => format!("status {}", created.status),
            reason => format!("{}: {reason}", part("type")),
        }
    };
    match created.status {
        200..=299 | 409 => Verdict::Taken,
        400 | 413 | 422 => Verdict::Refused(why()),
        _ => Verdict::Again(why()),
    }
}

/// A table's name as part of an index's name.
fn index_word(table: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let word = |c: char| Some(c.to_ascii_lowercase()).filter(|c| fits(*c)).unwrap_or('_');
    table.chars().map(word).take(180).collect()
}
