//! What parts count of themselves, as plain atomics; whoever serves metrics reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only rises, or rises and falls by pairs of calls.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// One less, for what rises and falls.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces the value, for what is measured and not counted.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more until the answer is dropped.
    pub fn during(&self) -> During<'_> {
        self.inc();
        During(self)
    }
}

/// Keeps a [`Counter`] one higher; made by [`Counter::during`].
#[derive(Debug)]
pub struct During<'a>(&'a Counter);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Upper bounds of the buckets of [`Durations`], in seconds; the last bucket has none.
pub const BUCKETS_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Counter; BUCKETS_SECONDS.len() + 1],
    micros: Counter,
}

/// What a [`Durations`] holds at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Seconds, all together.
    pub seconds: f64,
    /// How many.
    pub count: u64,
    /// Upper bound in seconds and how many are above the bound before; the last has no bound.
    pub buckets: Vec<(f64, u64)>,
}

impl Durations {
    /// Notes one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].inc();
        self.micros.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was noted so far.
    #[must_use]
    pub fn read(&self) -> Observed {
        let bounds = BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets.iter().map(Counter::get)).collect();
        Observed {
            seconds: Duration::from_micros(self.micros.get()).as_secs_f64(),
            count: buckets.iter().map(|(_, n)| n).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_bucket() {
        let durations = Durations::default();
        for millis in [0, 1, 2, 99, 20_000] {
            durations.observe(Duration::from_millis(millis));
        }
        let read = durations.read();
        assert_eq!(read.count, 5);
        assert!((read.seconds - 20.102).abs() < 1e-9);
        let in_bucket = |bound: f64| read.buckets.iter().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!((in_bucket(0.0005), in_bucket(0.001), in_bucket(0.0025)), (1, 1, 1));
        assert_eq!((in_bucket(0.1), in_bucket(f64::INFINITY)), (1, 1));
    }

    #[test]
    fn what_is_under_way_is_counted_until_it_is_dropped() {
        let running = Counter::default();
        let one = running.during();
        assert_eq!(running.get(), 1);
        drop(one);
        assert_eq!(running.get(), 0);
    }
}
