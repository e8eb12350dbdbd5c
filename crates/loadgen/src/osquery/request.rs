//! One request: 16 s for everything, and one resend when the connection broke.

use std::io::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::time::{Instant, timeout_at};

use super::dial::Answer;
use super::fate::Fate;
use super::host::Host;
use super::report::Route;
use super::run::Shared;

/// Connect, handshake, send, wait, read, and the resend.
const DEADLINE: Duration = Duration::from_secs(16);

/// Why there is no answer.
pub(super) struct Failure(pub(super) String);

/// Sends a request. A connection that broke is tried once more at once; one that was too slow is not.
pub(super) async fn post(
    shared: &Shared,
    host: &Host,
    route: Route,
    key: Option<&str>,
    body: &[u8],
    gzip: bool,
) -> Result<Answer, Failure> {
    if shared.is_away() {
        return Err(Failure(format!("{}: no network", route.path())));
    }
    let request = write(shared, host, route, key, body, gzip);
    let began = Instant::now();
    let deadline = began + DEADLINE;
    let stats = &shared.stats.routes[route as usize];
    let mut last = None;
    for resend in [false, true] {
        if resend {
            stats.resends.fetch_add(1, Relaxed);
        }
        let exchange = shared.dialer.exchange(host.number, &request);
        match timeout_at(deadline, exchange).await {
            Ok(Ok(answer)) => {
                stats.latency.add(began.elapsed());
                return Ok(answer);
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => {
                stats.timeouts.fetch_add(1, Relaxed);
                return Err(Failure(format!("{}: no answer within 16 s", route.path())));
            }
        }
    }
    stats.broken.fetch_add(1, Relaxed);
    let error = last.map(|error| error.to_string()).unwrap_or_default();
    Err(Failure(format!("{}: {error}", route.path())))
}

/// What the agent makes of an answer, with what follows for its key and for our counts.
pub(super) fn judge(shared: &Shared, host: &Host, route: Route, answer: &Answer) -> Fate {
    let fate = Fate::of(&answer.body);
    let stats = &shared.stats.routes[route as usize];
    match &fate {
        Fate::Success { empty } => {
            stats.successes.fetch_add(1, Relaxed);
            if *empty {
                shared.stats.error(&format!("{}: empty {}", route.path(), answer.status));
            }
        }
        Fate::NodeInvalid => {
            shared.stats.node_invalid.fetch_add(1, Relaxed);
            host.forget_key();
        }
        Fate::Error(error) => {
            stats.errors.fetch_add(1, Relaxed);
            shared.stats.error(&format!("{}: {error}", route.path()));
        }
        Fate::Unreadable => {
            stats.errors.fetch_add(1, Relaxed);
            shared.stats.error(&format!("{}: {} is no JSON object", route.path(), answer.status));
        }
    }
    fate
}

fn write(
    shared: &Shared,
    host: &Host,
    route: Route,
    key: Option<&str>,
    body: &[u8],
    gzip: bool,
) -> Vec<u8> {
    let packed = gzip.then(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).and_then(|()| encoder.finish()).unwrap_or_default()
    });
    let body = packed.as_deref().unwrap_or(body);
    let mut request = Vec::with_capacity(body.len() + 400);
    let (path, authority) = (host.path(route), &shared.dialer.authority);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: osquery/{}\r\nContent-Length: {}\r\n",
        host.version(),
        body.len()
    );
    request.extend_from_slice(head.as_bytes());
    if let Some(key) = key.filter(|_| host.has_header()) {
        request.extend_from_slice(format!("Authorization: NodeKey {key}\r\n").as_bytes());
    }
    if gzip {
        request.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}
