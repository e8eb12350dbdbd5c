//! What a run did, counted while it goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_types::{HuntNo, Timestamp};
use serde::{Deserialize, Serialize};

/// Counters shared by all agents.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) enrolled: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) tasks: AtomicU64,
    pub(crate) repeated_tasks: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) acks: AtomicU64,
    pub(crate) rekeys: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    pub(crate) ack_latency: Histogram,
    storms: Mutex<Vec<f64>>,
    task_times: Mutex<TaskTimes>,
    acked: Mutex<BTreeMap<u64, Acked>>,
}

/// When tasks were received, by hunt, in microseconds since 1970.
pub type TaskTimes = BTreeMap<u64, Vec<i64>>;

impl Stats {
    /// Kinds of errors that are told apart.
    const ERROR_KINDS_MAX: usize = 20;
    /// Times kept per hunt.
    const TASK_TIMES_MAX: usize = 200_000;
    /// Hunts whose acknowledged answers are counted apart: the newest.
    const HUNTS_MAX: usize = 1_000;

    pub(crate) fn error(&self, error: &anyhow::Error) {
        let text: String = format!("{error:#}").chars().take(160).collect();
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.contains_key(&text) || errors.len() < Self::ERROR_KINDS_MAX {
            *errors.entry(text).or_default() += 1;
        } else {
            *errors.entry("other".to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn storm(&self, took: Duration) {
        let mut storms = self.storms.lock().unwrap_or_else(PoisonError::into_inner);
        storms.push(took.as_secs_f64());
    }

    /// The server has said that an answer is stored.
    pub(crate) fn acked(&self, hunt: HuntNo, rows: u64) {
        let mut acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        if acked.len() >= Self::HUNTS_MAX && !acked.contains_key(&hunt.0) {
            acked.pop_first();
        }
        let of_hunt = acked.entry(hunt.0).or_default();
        of_hunt.answers += 1;
        of_hunt.rows += rows;
    }

    /// A task was received; kept until the next report.
    pub(crate) fn task_time(&self, hunt: HuntNo, at: Timestamp) {
        let mut times = self.task_times.lock().unwrap_or_else(PoisonError::into_inner);
        let of_hunt = times.entry(hunt.0).or_default();
        if of_hunt.len() < Self::TASK_TIMES_MAX {
            of_hunt.push(at.0);
        }
    }

    /// Everything so far.
    pub(crate) fn report(&self, elapsed: Duration) -> Report {
        let (cpu_seconds, resident_bytes) = own_use();
        Report {
            elapsed_seconds: elapsed.as_secs_f64(),
            enrolled: self.enrolled.load(Relaxed),
            connected: self.connected.load(Relaxed),
            connects: self.connects.load(Relaxed),
            tasks: self.tasks.load(Relaxed),
            repeated_tasks: self.repeated_tasks.load(Relaxed),
            rows: self.rows.load(Relaxed),
            batches: self.batches.load(Relaxed),
            acks: self.acks.load(Relaxed),
            rekeys: self.rekeys.load(Relaxed),
            ack_ms: self.ack_latency.summary(),
            storm_seconds: self.storms.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            cpu_seconds,
            resident_bytes,
            acked: self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            task_times: std::mem::take(
                &mut *self.task_times.lock().unwrap_or_else(PoisonError::into_inner),
            ),
        }
    }
}

/// One line of the simulator's output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Since the start.
    pub elapsed_seconds: f64,
    /// Agents with a number.
    pub enrolled: u64,
    /// Links that are up.
    pub connected: u64,
    /// Links that were up, all told.
    pub connects: u64,
    /// Tasks taken.
    pub tasks: u64,
    /// Tasks handed over again, and not run again.
    pub repeated_tasks: u64,
    /// Rows sent, repeats not counted.
    pub rows: u64,
    /// Batches sent, repeats counted.
    pub batches: u64,
    /// Batches acknowledged.
    pub acks: u64,
    /// Times the server took an agent for a copy.
    pub rekeys: u64,
    /// From sending a batch to its acknowledgement.
    pub ack_ms: Summary,
    /// How long each reconnect storm took until all links were up again.
    pub storm_seconds: Vec<f64>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// The simulator's own processor time.
    pub cpu_seconds: f64,
    /// The simulator's own memory.
    pub resident_bytes: u64,
    /// Answers the server has said are stored, by hunt: the newest thousand hunts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub acked: BTreeMap<u64, Acked>,
    /// When tasks were received since the last report, if that is noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub task_times: TaskTimes,
}

/// What agents were told is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// Answers: one per agent, with its outcome.
    pub answers: u64,
    /// Rows in them.
    pub rows: u64,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// None is above.
    pub max: f64,
}

/// Durations in buckets a quarter of a doubling wide: to 19 % exact, from 1 µs to an hour.
pub(crate) struct Histogram([AtomicU64; 128]);

impl Default for Histogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 128])
    }
}

impl Histogram {
    pub(crate) fn add(&self, duration: Duration) {
        let micros = duration.as_secs_f64() * 1e6;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let bucket = (micros.max(1.0).log2() * 4.0).clamp(0.0, 127.0) as usize;
        if let Some(bucket) = self.0.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Counts of all buckets.
    pub(crate) fn buckets(&self) -> Vec<u64> {
        self.0.iter().map(|bucket| bucket.load(Relaxed)).collect()
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary::of(&self.buckets())
    }
}

impl Summary {
    /// Of the counts of buckets a quarter of a doubling wide, as reports hold them. Counts of several
    /// processes can be added, and those of an earlier report taken away.
    #[must_use]
    pub fn of(counts: &[u64]) -> Self {
        let count: u64 = counts.iter().sum();
        let upper = |bucket: usize| 2f64.powf((bucket + 1) as f64 / 4.0) / 1000.0;
        let at = |share: f64| {
            let wanted = (count as f64 * share).ceil();
            let mut seen = 0.0;
            let found = counts.iter().position(|n| {
                seen += *n as f64;
                seen >= wanted
            });
            if count == 0 { 0.0 } else { found.map_or(0.0, upper) }
        };
        Summary { count, p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Processor seconds and resident bytes of this process.
pub(crate) fn own_use() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let cpu = (number(11) + number(12)) as f64 / ticks as f64;
    (cpu, number(21) * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near() {
        let histogram = Histogram::default();
        for ms in 1..=1000 {
            histogram.add(Duration::from_millis(ms));
        }
        let summary = histogram.summary();
        assert_eq!(summary.count, 1000);
        assert!((400.0..650.0).contains(&summary.p50), "{summary:?}");
        assert!((900.0..1300.0).contains(&summary.p99), "{summary:?}");
        assert_eq!(Histogram::default().summary().max, 0.0);
    }
}
