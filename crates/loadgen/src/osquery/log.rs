//! The log loop: makes what the schedule is due, and flushes what is buffered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::answers;
use super::buffer::{Kind, Source};
use super::fate::Fate;
use super::host::Host;
use super::plan::Plan;
use super::report::Route;
use super::request::{Failure, judge, post};
use super::run::{Shared, seconds};

/// The longest wait between two flushes that fail.
const BACKOFF_MAX: Duration = Duration::from_secs(3600);

/// Attempts that failed in a row, and when the next may be; results and statuses apart.
#[derive(Clone, Copy)]
struct Backoff {
    failed: u32,
    not_before: Instant,
}

/// How often each query has run.
type Runs = BTreeMap<Box<str>, u64>;

pub(super) async fn run(shared: &Shared, host: &Host, plan: watch::Receiver<Arc<Plan>>) {
    let period = Duration::from_secs_f64(shared.options.log_interval);
    let fresh = || [Backoff { failed: 0, not_before: Instant::now() }; 2];
    let mut backoff = fresh();
    let mut runs = Runs::default();
    let mut last = seconds();
    loop {
        if shared.pause(period).await {
            backoff = fresh();
        }
        let now = seconds();
        if !shared.is_draining() {
            let plan = Arc::clone(&plan.borrow());
            make(shared, host, &plan, &mut runs, last, now);
        }
        last = now;
        for (at, kind) in [Kind::Result, Kind::Status].into_iter().enumerate() {
            let backoff = &mut backoff[at];
            if Instant::now() < backoff.not_before {
                continue;
            }
            if flush(shared, host, kind).await {
                backoff.failed = 0;
            } else {
                backoff.failed += 1;
                // Releases before 5.12 do not wait longer.
                let failed = if host.release >= 12 { backoff.failed } else { 1 };
                let wait = period * failed.saturating_mul(failed).min(10_000);
                backoff.not_before = Instant::now() + wait.min(BACKOFF_MAX) - period.min(wait);
            }
        }
    }
}

/// Lines that came due since the last flush. A query runs when the time divides by its interval.
fn make(shared: &Shared, host: &Host, plan: &Plan, runs: &mut Runs, last: u64, now: u64) {
    let mut lines = Vec::new();
    for query in &plan.queries {
        // Splayed by host, and for good.
        let splay = u64::from(host.number) * 7 % query.interval;
        if (last + splay) / query.interval == (now + splay) / query.interval {
            continue;
        }
        let run = runs.entry(query.name.as_str().into()).or_default();
        answers::scheduled(host, query, *run, now, &mut lines);
        *run += 1;
    }
    let own = shared.options.lines;
    let more = rand::random::<f64>() < own.fract();
    for _ in 0..own as u64 + u64::from(more) {
        lines.push((Source::Own, answers::line(host, now)));
    }
    if rand::random::<f64>() < shared.options.large {
        lines.push((Source::Large, answers::large(host, now)));
    }
    if rand::random::<f64>() < 0.1 {
        lines.push((Source::Status, answers::status(host, now)));
    }
    let mut buffer = host.buffer.lock().unwrap_or_else(PoisonError::into_inner);
    for (source, line) in lines {
        shared.stats.lines_made.fetch_add(1, Relaxed);
        let forgotten = buffer.push(source, line, shared.options.buffer_lines);
        shared.stats.lines_forgotten.fetch_add(forgotten, Relaxed);
    }
}

/// Sends what is there of one kind; whether the agent goes on as if all were well.
async fn flush(shared: &Shared, host: &Host, kind: Kind) -> bool {
    let (data, count) = {
        let buffer = host.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = buffer.next(kind);
        (lines.join(&b','), lines.len())
    };
    if count == 0 {
        return true;
    }
    let key = host.key(shared).await;
    let mut body = Vec::with_capacity(data.len() + 200);
    body.extend_from_slice(b"{\"data\":[");
    body.extend_from_slice(&data);
    let tail = format!("],\"log_type\":\"{}\",\"node_key\":\"{key}\"}}", kind.word());
    body.extend_from_slice(tail.as_bytes());
    let posted = post(shared, host, Route::Log, Some(&key), &body, host.gzips).await;
    let answer = match posted {
        Ok(answer) => answer,
        Err(Failure(why)) => {
            shared.stats.error(&why);
            return false;
        }
    };
    let fate = judge(shared, host, Route::Log, &answer);
    let Fate::Success { empty } = fate else { return false };
    let sources = host.buffer.lock().unwrap_or_else(PoisonError::into_inner).taken(kind, count);
    // The agent deletes them whatever the status was; only a 200 with a body says they were kept.
    if empty || answer.status != 200 {
        shared
            .stats
            .lost(&format!("deleted on {} with {} bytes", answer.status, answer.body.len()), count);
    } else {
        shared.stats.lines_taken.fetch_add(count as u64, Relaxed);
        for (counter, taken) in shared.stats.taken_of.iter().zip(sources) {
            counter.fetch_add(taken, Relaxed);
        }
    }
    true
}
