//! What a run did, as the agents would account for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::buffer::Source;
use crate::report::{Histogram, Summary, own_use};

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Route {
    Enrol,
    Config,
    Read,
    Write,
    Log,
    CarveBegin,
    CarveBlock,
}

const ROUTES: [Route; 7] = [
    Route::Enrol,
    Route::Config,
    Route::Read,
    Route::Write,
    Route::Log,
    Route::CarveBegin,
    Route::CarveBlock,
];

impl Route {
    /// Below `/api/osquery/`.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Enrol => "enroll",
            Self::Config => "config",
            Self::Read => "distributed/read",
            Self::Write => "distributed/write",
            Self::Log => "log",
            Self::CarveBegin => "carve/begin",
            Self::CarveBlock => "carve/block",
        }
    }
}

/// Counts of one route.
#[derive(Default)]
pub(super) struct RouteStats {
    pub(super) successes: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) broken: AtomicU64,
    pub(super) resends: AtomicU64,
    pub(super) latency: Histogram,
}

/// Counts of a run.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) routes: [RouteStats; 7],
    pub(super) enrolled: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) node_invalid: AtomicU64,
    pub(super) queries_run: AtomicU64,
    pub(super) answers_taken: AtomicU64,
    pub(super) carves_sent: AtomicU64,
    pub(super) lines_made: AtomicU64,
    pub(super) lines_taken: AtomicU64,
    pub(super) taken_of: [AtomicU64; Source::ALL.len()],
    pub(super) lines_forgotten: AtomicU64,
    lost: Mutex<BTreeMap<String, u64>>,
    counts: Mutex<BTreeMap<String, u64>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// Kinds of one thing that are told apart.
const KINDS_MAX: usize = 50;

fn add(to: &Mutex<BTreeMap<String, u64>>, what: &str, count: u64) {
    let what: String = what.chars().take(160).collect();
    let mut kinds = to.lock().unwrap_or_else(PoisonError::into_inner);
    let known = kinds.contains_key(&what) || kinds.len() < KINDS_MAX;
    *kinds.entry(if known { what } else { "other".to_owned() }).or_default() += count;
}

impl Stats {
    pub(super) fn error(&self, what: &str) {
        add(&self.errors, what, 1);
    }

    pub(super) fn count(&self, what: &str) {
        add(&self.counts, what, 1);
    }

    pub(super) fn lost(&self, why: &str, count: usize) {
        add(&self.lost, why, count as u64);
    }

    pub(super) fn report(
        &self,
        elapsed: Duration,
        hosts: u64,
        buffered: u64,
        buckets: bool,
    ) -> OsqueryReport {
        let (cpu_seconds, resident_bytes) = own_use();
        let take = |kinds: &Mutex<BTreeMap<String, u64>>| {
            kinds.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let routes = ROUTES.iter().map(|route| {
            let of = &self.routes[*route as usize];
            let endpoint = Endpoint {
                ms: of.latency.summary(),
                successes: of.successes.load(Relaxed),
                errors: of.errors.load(Relaxed),
                timeouts: of.timeouts.load(Relaxed),
                broken: of.broken.load(Relaxed),
                resends: of.resends.load(Relaxed),
                buckets: if buckets { of.latency.buckets() } else { Vec::new() },
            };
            (route.path().to_owned(), endpoint)
        });
        OsqueryReport {
            elapsed_seconds: elapsed.as_secs_f64(),
            hosts,
            enrolled: self.enrolled.load(Relaxed),
            node_invalid: self.node_invalid.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            queries_run: self.queries_run.load(Relaxed),
            answers_taken: self.answers_taken.load(Relaxed),
            carves_sent: self.carves_sent.load(Relaxed),
            lines_made: self.lines_made.load(Relaxed),
            lines_taken: self.lines_taken.load(Relaxed),
            taken_of: Source::ALL
                .iter()
                .zip(&self.taken_of)
                .map(|(source, taken)| (source.word().to_owned(), taken.load(Relaxed)))
                .collect(),
            lines_buffered: buffered,
            lines_forgotten: self.lines_forgotten.load(Relaxed),
            lost: take(&self.lost),
            counts: take(&self.counts),
            errors: take(&self.errors),
            endpoints: routes
                .filter(|(_, endpoint)| endpoint.ms.count > 0 || endpoint.broken > 0)
                .collect(),
            cpu_seconds,
            resident_bytes,
        }
    }
}

/// One line of the simulator's output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OsqueryReport {
    /// Since the start.
    pub elapsed_seconds: f64,
    /// Hosts.
    pub hosts: u64,
    /// Enrolments that gave a key, all told.
    pub enrolled: u64,
    /// Times a host was told that its key is no good.
    pub node_invalid: u64,
    /// Times an agent gave up enrolling and was started again.
    pub restarts: u64,
    /// Distributed queries that were run.
    pub queries_run: u64,
    /// Answers to them that the server took.
    pub answers_taken: u64,
    /// Files sent whole.
    pub carves_sent: u64,
    /// Log lines that were made.
    pub lines_made: u64,
    /// Lines the server took.
    pub lines_taken: u64,
    /// Of these, by what they came from: `own` and `large` are made up, `scheduled` is what the server
    /// wanted, `status` the agent's own words.
    pub taken_of: BTreeMap<String, u64>,
    /// Lines that wait.
    pub lines_buffered: u64,
    /// Lines that fell out of a full buffer.
    pub lines_forgotten: u64,
    /// Lines and answers that agents deleted although nobody has them, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Other things that happened.
    pub counts: BTreeMap<String, u64>,
    /// What agents would log as errors.
    pub errors: BTreeMap<String, u64>,
    /// By route.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// The simulator's own processor time.
    pub cpu_seconds: f64,
    /// The simulator's own memory.
    pub resident_bytes: u64,
}

/// One route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// From the start of a request, handshake included, to its answer.
    pub ms: Summary,
    /// Answers the agent took for success.
    pub successes: u64,
    /// Answers with an error, or unreadable.
    pub errors: u64,
    /// Requests that took more than 16 s.
    pub timeouts: u64,
    /// Requests whose connection broke twice.
    pub broken: u64,
    /// Requests sent again because the connection broke.
    pub resends: u64,
    /// How many took how long, for [`Summary::of`]; with `--buckets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<u64>,
}
