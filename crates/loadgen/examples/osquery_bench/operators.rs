//! People who go on working: requests to the operators' API, all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_testkit::Server;
use serde::Serialize;

use crate::api::Api;

/// What is asked for, in turn.
const PATHS: [&str; 4] =
    ["/v1/version", "/v1/endpoints?limit=50", "/v1/agents?limit=50", "/v1/hunts?limit=50"];
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Somebody at work.
pub struct Operators {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Option<f64>>>,
}

/// What it was like.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Work {
    /// Requests that were answered.
    pub answered: usize,
    /// Requests that were not.
    pub failed: usize,
    /// Milliseconds that half of them took at most.
    pub p50: f64,
    /// Milliseconds that 99 of 100 took at most.
    pub p99: f64,
    /// The longest, in milliseconds.
    pub max: f64,
}

impl Operators {
    /// Begins.
    pub fn start(server: &Server) -> anyhow::Result<Self> {
        let (api, stop) = (Api::new(server)?, Arc::new(AtomicBool::new(false)));
        api.warm()?;
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            for path in PATHS.iter().cycle() {
                if stopped.load(Relaxed) {
                    break;
                }
                let began = Instant::now();
                let answered = api.get(path).is_ok();
                took.push(answered.then(|| began.elapsed().as_secs_f64() * 1e3));
                std::thread::sleep(PAUSE);
            }
            took
        });
        Ok(Self { stop, thread })
    }

    /// Ends.
    pub fn finish(self) -> anyhow::Result<Work> {
        self.stop.store(true, Relaxed);
        let all = self.thread.join().map_err(|_| anyhow::anyhow!("the operator panicked"))?;
        let mut took: Vec<f64> = all.iter().flatten().copied().collect();
        took.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
            took.get(at).copied().unwrap_or_default()
        };
        Ok(Work {
            answered: took.len(),
            failed: all.len() - took.len(),
            p50: at(50),
            p99: at(99),
            max: at(100),
        })
    }
}
