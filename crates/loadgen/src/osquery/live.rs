//! The loop of distributed queries: read, run one after another, write once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::answers::{self, Rows};
use super::host::{Host, attempts};
use super::report::Route;
use super::run::Shared;
use super::{carve, request};

/// While it is told to hurry an agent polls this often.
const ACCELERATED: Duration = Duration::from_secs(5);

#[derive(Default, Deserialize)]
struct Work {
    #[serde(default)]
    queries: BTreeMap<String, String>,
    #[serde(default)]
    discovery: BTreeMap<String, String>,
    accelerate: Option<u64>,
}

pub(super) async fn run(shared: &Shared, host: &Host) {
    let interval = Duration::from_secs_f64(shared.options.distributed_interval);
    let packages = shared.options.packages;
    let mut hurry_until: Option<Instant> = None;
    // What was not taken goes out with the next cycle, together with what is new.
    let mut unsent: BTreeMap<String, Rows> = BTreeMap::new();
    loop {
        let read = |key: &str| json!({ "node_key": key }).to_string().into_bytes();
        let answer = attempts(shared, host, Route::Read, &read).await;
        let work = answer.filter(|answer| answer != b"{\"queries\":{}}");
        let work: Work =
            work.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if let Some(seconds) = work.accelerate {
            hurry_until = Some(Instant::now() + Duration::from_secs(seconds));
        }
        let mut files = Vec::new();
        for (id, sql) in &work.queries {
            // Releases before 5.8 leave out what has no discovery query once there is one.
            let runs = match work.discovery.get(id) {
                Some(discovery) => answers::discovers(discovery),
                None => host.release >= 8 || work.discovery.is_empty(),
            };
            if !runs {
                shared.stats.count("queries skipped for want of discovery");
                continue;
            }
            let took = answers::time(shared.options.query_ms);
            if !took.is_zero() {
                sleep(took).await;
            }
            shared.stats.queries_run.fetch_add(1, Relaxed);
            if sql.contains("carve = 1") || sql.contains("carve=1") {
                files.push(carve::guid());
            }
            unsent.insert(
                id.clone(),
                answers::distributed(host, id, sql, took, packages, files.last()),
            );
        }
        if !unsent.is_empty() {
            let body = |key: &str| answers::write(&unsent, key);
            if let Some(answer) = attempts(shared, host, Route::Write, &body).await {
                if answer.is_empty() {
                    shared.stats.lost("answers deleted by an empty body", unsent.len());
                } else {
                    shared.stats.answers_taken.fetch_add(unsent.len() as u64, Relaxed);
                }
                unsent.clear();
            }
        }
        for file in files {
            Box::pin(carve::send(shared, host, &file)).await;
        }
        let hurries = hurry_until.is_some_and(|until| Instant::now() < until);
        shared.pause(if hurries { ACCELERATED } else { interval }).await;
    }
}

/// A request that is made with the host's key and judged, without further attempts.
pub(super) async fn once(
    shared: &Shared,
    host: &Host,
    route: Route,
    body: &[u8],
) -> Option<Vec<u8>> {
    let key = host.key(shared).await;
    match request::post(shared, host, route, Some(&key), body, false).await {
        Ok(answer) => Some(answer.body),
        Err(request::Failure(why)) => {
            shared.stats.error(&why);
            None
        }
    }
}
