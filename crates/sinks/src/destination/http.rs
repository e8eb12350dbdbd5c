//! What destinations over HTTP have in common: no redirects, no proxy, guarded addresses, bounded
//! answers, and what a status means.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{SendError, guard, tls};
use crate::error::chain;

/// Most of an answer that is read where only its beginning matters.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Most of an answer that is quoted.
const QUOTED_MAX: usize = 300;

/// A client for one destination.
pub(crate) struct Http {
    client: reqwest::Client,
    allow_private: bool,
}

/// An answer, read.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Resolves names to the addresses that rows may be sent to.
struct Guarded {
    allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = guard::resolve(name.as_str(), 0, allow_private).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Http {
    pub(crate) fn new(
        ca_pem: Option<&str>,
        allow_private: bool,
        timeout: Duration,
    ) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client(ca_pem)?)
            .dns_resolver(Arc::new(Guarded { allow_private }))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT.min(timeout))
            .timeout(timeout)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| chain(&error))?;
        Ok(Self { client, allow_private })
    }

    /// A URL of a sink, with its host judged once more: addresses are not resolved.
    pub(crate) fn url(&self, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("this is no URL: {error}"))?;
        guard::literal(&url, self.allow_private)?;
        Ok(url)
    }

    /// One POST, with its answer of at most so many bytes.
    pub(crate) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
        answer_bytes_max: usize,
    ) -> Result<Answer, SendError> {
        let request = self.client.post(url.clone()).headers(headers).body(body);
        // The URL may hold what nobody should read.
        let away = |error: reqwest::Error| SendError::failed(chain(&error.without_url()));
        let mut response = request.send().await.map_err(away)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let mut read = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(away)? {
            if read.len() + piece.len() > answer_bytes_max {
                let message = format!("the answer is longer than {answer_bytes_max} bytes");
                return Err(SendError::failed(message));
            }
            read.extend_from_slice(&piece);
        }
        Ok(Answer { status, retry_after, body: read.freeze() })
    }
}

/// Seconds only: a date would be by another clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Answer {
    /// What the status says of the request as a whole; `Ok` when rows were taken.
    pub(crate) fn judge(&self) -> Result<(), SendError> {
        let status = self.status;
        let message = || match self.quoted() {
            text if text.is_empty() => format!("it answered {status}"),
            text => format!("it answered {status}: {text}"),
        };
        match status.as_u16() {
            200..=299 => Ok(()),
            // It has them already.
            409 => Ok(()),
            300..=399 => Err(SendError::failed(format!(
                "it answered {status}; redirects are not followed, give the final address"
            ))),
            400 | 411 | 413..=415 | 417 | 422 | 431 => Err(SendError::Rejected(message())),
            _ => {
                let retry_after = self.retry_after;
                Err(SendError::Failed { message: message(), retry_after })
            }
        }
    }

    /// The beginning of the answer, on one line.
    pub(crate) fn quoted(&self) -> String {
        let head = &self.body[..self.body.len().min(QUOTED_MAX)];
        let text = String::from_utf8_lossy(head);
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ")
    }
}

/// A header that shows a secret; never printed.
pub(crate) fn secret_header(scheme: &str, secret: &SecretString) -> Result<HeaderValue, String> {
    let text = match scheme {
        "" => secret.expose_secret().to_owned(),
        scheme => format!("{scheme} {}", secret.expose_secret()),
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| "the secret has characters that no header holds".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
