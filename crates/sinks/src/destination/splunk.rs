//! Splunk's HTTP event collector.

use http::{HeaderMap, HeaderValue, header};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::http::{ANSWER_BYTES_MAX, Answer, Http, secret_header};
use super::{SendError, Sent, all_taken};
use crate::event::Event;

/// Where the collector stands on its port.
const PATH: &str = "/services/collector/event";

/// What events are filed under.
pub(crate) struct Named {
    pub index: Option<String>,
    pub source: String,
    pub sourcetype: String,
}

/// Rows as events of the collector. It takes a request as a whole.
pub(crate) struct Splunk {
    http: Http,
    url: Url,
    named: Named,
    headers: HeaderMap,
}

/// What the collector answers.
#[derive(Deserialize)]
struct Reply {
    code: i64,
    #[serde(default)]
    text: String,
}

impl Splunk {
    pub(super) fn new(
        http: Http,
        url: &str,
        named: Named,
        secret: Option<&SecretString>,
    ) -> Result<Self, String> {
        let mut url = http.url(url)?;
        if url.path() == "/" {
            url.set_path(PATH);
        }
        let secret = secret.ok_or("there is no token for the collector")?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::AUTHORIZATION, secret_header("Splunk", secret)?);
        Ok(Self { http, url, named, headers })
    }

    pub(super) async fn send(&mut self, events: &[Event]) -> Sent {
        let mut body = Vec::new();
        for event in events {
            self.write(event, &mut body);
        }
        let answer =
            self.http.post(&self.url, self.headers.clone(), body, ANSWER_BYTES_MAX).await?;
        judge(&answer)?;
        Ok(all_taken(events))
    }

    fn write(&self, event: &Event, out: &mut Vec<u8>) {
        let micros = event.received.0;
        let time = format!("{}.{:06}", micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        let mut head = json!({
            "time": time,
            "source": self.named.source,
            "sourcetype": self.named.sourcetype,
            "fields": {"muster_id": event.id, "muster_table": &*event.table},
        });
        if let Some(index) = &self.named.index {
            head["index"] = index.as_str().into();
        }
        if !event.host.is_empty() {
            head["host"] = (*event.host).into();
        }
        let head = head.to_string();
        out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
        out.extend_from_slice(b",\"event\":");
        out.extend_from_slice(&event.body);
        out.extend_from_slice(b"}\n");
    }
}

/// The collector's own codes say more than its status: 6, 12, 13 and 15 are about an event.
fn judge(answer: &Answer) -> Result<(), SendError> {
    let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
    match (answer.status.as_u16(), reply) {
        (200..=299, None | Some(Reply { code: 0, .. })) => Ok(()),
        (_, Some(Reply { code: 6 | 12 | 13 | 15, text })) => {
            Err(SendError::Rejected(format!("the collector says: {text}")))
        }
        (413, _) => Err(SendError::Rejected("the collector says that this is too long".to_owned())),
        (_, Some(Reply { code, text })) => Err(SendError::Failed {
            message: format!("the collector says: {text} (code {code})"),
            retry_after: answer.retry_after,
        }),
        _ => match answer.judge() {
            // Without a code of an event it is not one event's fault.
            Err(SendError::Rejected(message)) => Err(SendError::failed(message)),
            other => other,
        },
    }
}
