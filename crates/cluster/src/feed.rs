//! Following a feed: on a hint and on an interval.

use std::time::Duration;

use muster_bus::{Bus, Hint, Subscription, Topic};
use tokio::time::{Interval, MissedTickBehavior};

/// Where a reader of a feed is, and when it should look again.
///
/// ```no_run
/// # async fn follow(bus: &dyn muster_bus::Bus) {
/// # async fn rows_above(last: i64) -> Vec<i64> { vec![last + 1] }
/// # use std::time::Duration;
/// let mut cursor = muster_cluster::FeedCursor::new(bus, &[muster_bus::Topic::Hunts], Duration::from_secs(1));
/// loop {
///     cursor.due().await;
///     for change in rows_above(cursor.last()).await {
///         cursor.advance(change);
///     }
/// }
/// # }
/// ```
pub struct FeedCursor {
    last: i64,
    interval: Interval,
    hints: Option<Box<dyn Subscription>>,
}

impl FeedCursor {
    /// From the beginning; the first look is due at once.
    #[must_use]
    pub fn new(bus: &dyn Bus, topics: &[Topic], every: Duration) -> Self {
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { last: 0, interval, hints: Some(bus.subscribe(topics)) }
    }

    /// The last number seen: ask for what is above it.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Notes a number that has been applied; never goes back.
    pub fn advance(&mut self, change: i64) {
        self.last = self.last.max(change);
    }

    /// Waits until there may be something new: a hint, lost hints, or the interval.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn due(&mut self) -> Option<Hint> {
        let Some(hints) = &mut self.hints else {
            self.interval.tick().await;
            return None;
        };
        tokio::select! {
            _ = self.interval.tick() => None,
            hint = hints.next() => {
                if hint.is_none() {
                    self.hints = None;
                }
                hint
            }
        }
    }
}
