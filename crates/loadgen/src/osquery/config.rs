//! The configuration loop.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::host::{Host, attempts};
use super::plan::Plan;
use super::report::Route;
use super::run::Shared;

/// Fetches for ever; tells the log loop what to run.
pub(super) async fn run(shared: &Shared, host: &Host, plan: &watch::Sender<Arc<Plan>>) {
    // In memory only, like the agent's: the first fetch after a start is always whole. Releases
    // before the conditional fetch do not send the key at all.
    let mut etag = host.has_etag.then(String::new);
    loop {
        let body = |key: &str| match &etag {
            Some(etag) => json!({ "node_key": key, "etag": etag }),
            None => json!({ "node_key": key }),
        };
        let body = |key: &str| body(key).to_string().into_bytes();
        let mut pause = shared.options.config_interval;
        match attempts(shared, host, Route::Config, &body).await {
            Some(answer) if answer.is_empty() => {
                // It drops its whole schedule.
                plan.send_replace(Arc::default());
                shared.stats.count("schedules dropped by an empty answer");
            }
            Some(answer) => match unchanged(&answer) {
                Some(same) if etag.is_some() => match same {
                    Same::Unchanged if etag.as_deref() == Some("") => {
                        shared.stats.error("config: \"ok\" to an empty etag");
                    }
                    Same::Unchanged => shared.stats.count("configs unchanged"),
                    Same::Etag(new) => {
                        etag = Some(new);
                        plan.send_replace(shared.plans.of(&answer));
                    }
                },
                _ => _ = plan.send_replace(shared.plans.of(&answer)),
            },
            None => pause = pause.max(300.0),
        }
        shared.pause(Duration::from_secs_f64(pause)).await;
    }
}

enum Same {
    Unchanged,
    Etag(String),
}

fn unchanged(answer: &[u8]) -> Option<Same> {
    #[derive(serde::Deserialize)]
    struct Seen {
        etag: Option<String>,
    }
    let etag = serde_json::from_slice::<Seen>(answer).ok()?.etag?;
    Some(if etag == "ok" { Same::Unchanged } else { Same::Etag(etag) })
}
