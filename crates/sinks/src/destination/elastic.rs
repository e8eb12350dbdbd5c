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
use serde_json::value::RawValue;
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

/// Bytes of an answer that are read, whatever was sent, and for each row besides: a status, and
/// why the row was not taken.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const ANSWER_BYTES_PER_ROW: usize = 1 << 10;

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    create: Created<'a>,
}

/// What became of one row. The error stays the text it is until its words are asked for: a tree of
/// values takes many times its bytes.
#[derive(Deserialize)]
struct Created<'a> {
    status: u16,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// The words of an error; what else there may be is not kept.
#[derive(Default, Deserialize)]
struct Cause {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    reason: String,
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
        let max = ANSWER_BYTES_MAX + events.len() * ANSWER_BYTES_PER_ROW;
        let answer = self.http.post(&self.url, self.headers.clone(), body, max).await?;
        match answer.judge() {
            Ok(()) => {}
            // Only its length can make a whole bulk one row's fault: each row is judged by itself.
            Err(SendError::Rejected(message)) if answer.status.as_u16() != 413 => {
                return Err(SendError::failed(message));
            }
            Err(other) => return Err(other),
        }
        let reply: Reply<'_> = serde_json::from_slice(&answer.body).map_err(|error| {
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
fn judge(created: &Created<'_>) -> Verdict {
    let why = || {
        // An error in words that are not known says no more than its status.
        let cause = created.error.and_then(|error| serde_json::from_str(error.get()).ok());
        let Cause { kind, reason } = cause.unwrap_or_default();
        match reason.is_empty() {
            true => format!("status {}", created.status),
            false => format!("{kind}: {reason}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_words_that_are_not_known_says_its_status() {
        let said = |error: &str| {
            let item = format!(r#"{{"create": {{"status": 400{error}}}}}"#);
            let Verdict::Refused(why) = judge(&serde_json::from_str::<Item>(&item).unwrap().create)
            else {
                panic!("{item}");
            };
            why
        };
        let known = r#", "error": {"type": "parsing", "more": [{"x": [1, {}]}], "reason": "no"}"#;
        assert_eq!(said(known), "parsing: no");
        let nothing = ["", r#", "error": null"#, r#", "error": "no""#, r#", "error": [[[7]]]"#];
        let odd = [r#", "error": {"type": 7, "reason": {"x": 1}}"#, r#", "error": {"type": "x"}"#];
        for error in nothing.iter().chain(&odd) {
            assert_eq!(said(error), "status 400", "{error}");
        }
    }
}
