//! Health and metrics on their own listener and runtime: `/livez`, `/readyz`, `/metrics`.
//!
//! `/livez` says that the process answers; whoever restarts processes asks it. `/readyz` says whether
//! this instance wants traffic; whoever balances asks it. Ready means: the stores were opened, the
//! listeners of the roles are bound, and no drain has begun. A store that goes away later is *no* reason:
//! it goes away for all instances at once, a balancer would then have nobody left, and agents could not
//! even hand in what the stream still takes. It is shown, and has its own metric and alert.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// Whether this instance wants traffic. False while it starts and from the first moment of a drain.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicU8>);

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Ready {
    /// Changes it. False after true is a drain.
    pub fn set(&self, ready: bool) {
        let before = self.0.load(Ordering::Acquire);
        let state = match (ready, before) {
            (true, _) => READY,
            (false, STARTING) => STARTING,
            (false, _) => DRAINING,
        };
        self.0.store(state, Ordering::Release);
    }

    /// Asks it.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire) == READY
    }

    /// Why not.
    fn why_not(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Acquire) {
            READY => None,
            DRAINING => Some("draining: it finishes what it has and then ends"),
            _ => Some("starting: its listeners are not served yet"),
        }
    }
}

/// A part that is shown and is no reason to be not ready: its name, whether it is well, and what it
/// means when it is not.
pub type Shown = Box<dyn Fn() -> Vec<(&'static str, bool, &'static str)> + Send + Sync>;

struct Health {
    ready: Ready,
    registry: Arc<Registry>,
    shown: Shown,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: std::net::TcpListener,
    ready: Ready,
    registry: Arc<Registry>,
    shown: Shown,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let state = Arc::new(Health { ready, registry, shown });
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// The first two on any other listener, for balancers that ask where they send requests to.
pub fn probes(ready: Ready) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(|State(ready): State<Ready>| async move { answer(&ready, "") }))
        .with_state(ready)
}

/// The text of all metrics; `None` when one cannot be written.
pub fn text(registry: &Registry) -> Option<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).ok()?;
    Some(text)
}

async fn readyz(
    State(health): State<Arc<Health>>,
    RawQuery(query): RawQuery,
) -> (StatusCode, String) {
    let verbose = query.is_some_and(|query| query.split('&').any(|key| key.starts_with("verbose")));
    if !verbose {
        return answer(&health.ready, "");
    }
    let mut more = String::new();
    for (name, is_well, otherwise) in (health.shown)() {
        let line = match is_well {
            true => format!("{name}: ok\n"),
            false => format!("{name}: {otherwise} (no reason to be not ready)\n"),
        };
        more.push_str(&line);
    }
    answer(&health.ready, &more)
}

fn answer(ready: &Ready, more: &str) -> (StatusCode, String) {
    match ready.why_not() {
        None => (StatusCode::OK, format!("ready\n{more}")),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n{more}")),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match text(&health.registry) {
        Some(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_why_it_is_not_ready() {
        let ready = Ready::default();
        ready.set(false);
        assert!(answer(&ready, "").1.contains("starting"));
        ready.set(true);
        assert_eq!(answer(&ready, ""), (StatusCode::OK, "ready\n".to_owned()));
        ready.set(false);
        let (status, text) = answer(&ready, "catalog: ok\n");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("draining") && text.ends_with("catalog: ok\n"));
    }
}
