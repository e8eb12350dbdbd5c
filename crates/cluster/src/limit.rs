//! Limits that hold for all instances together: each has a share of them, and the shares are leased.
//!
//! A limit is cut into [`SHARES`] equal shares, which are partitions of a [`Job`](crate::Job) like any
//! other: held by one instance at a time, moved when instances come and go, and given up before another
//! takes them. So what is admitted is never above the limit, and while a share is on its way it is not
//! used by anybody. An instance that loses sight of the catalog keeps its share for a while, which nobody
//! takes meanwhile ([`Options::share_ttl`](crate::Options::share_ttl)).
//!
//! A share that is gained is empty: its last holder may have used all of it a moment ago.

use std::time::Duration;

use muster_types::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Held;

/// Into how many shares a limit is cut. With more instances than this some have none.
pub const SHARES: u16 = 48;

/// How often something may happen, in the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Sustained.
    pub per_second: f64,
    /// At once, after a rest.
    pub burst: f64,
}

/// This instance's part of the limits, as it changes.
#[derive(Clone, Debug)]
pub struct Share(Option<watch::Receiver<Held>>, f64);

impl Share {
    /// All of it: there is no other instance.
    #[must_use]
    pub fn whole() -> Self {
        Self(None, 1.0)
    }

    /// `began` is the part that nobody had used when the process started.
    pub(crate) fn leased(held: watch::Receiver<Held>, began: f64) -> Self {
        Self(Some(held), began)
    }

    /// Between 0 and 1.
    #[must_use]
    pub fn now(&self) -> f64 {
        let Some(held) = &self.0 else { return 1.0 };
        let held = held.borrow();
        if Instant::now() >= held.valid_until {
            return 0.0;
        }
        part(&held)
    }
}

/// Which part of a limit is held.
fn part(held: &Held) -> f64 {
    f64::from(u32::try_from(held.epochs.len()).unwrap_or(u32::MAX)) / f64::from(SHARES)
}

/// Which part of a limit nobody has used of what a process holds after its first look: all of it when no
/// other instance lives, else the shares that were never held before. The others may have used theirs
/// and let them go between the moment it registered and that look.
pub(crate) fn unused(held: &Held, alone: bool) -> f64 {
    let unused = held.epochs.values().filter(|epoch| alone || epoch.0 == 1).count();
    f64::from(u32::try_from(unused).unwrap_or(u32::MAX)) / f64::from(SHARES)
}

/// What one key owes: how much of the burst is used and not yet earned back.
#[derive(Clone, Copy, Debug)]
pub struct Owed {
    owed: f64,
    /// The burst it was counted against.
    burst: f64,
    at: Timestamp,
}

/// Counts against this instance's share of a limit. The state per key is the caller's: one for a limit
/// on all together, a table of them for a limit per address.
#[derive(Debug)]
pub struct Meter {
    limit: Limit,
    share: Share,
    /// What a key that was never seen owes: gained shares are empty.
    unseen: parking_lot::Mutex<Owed>,
}

impl Meter {
    /// A meter whose share is full as far as nobody had used it when the process started.
    #[must_use]
    pub fn new(limit: Limit, share: Share, now: Timestamp) -> Self {
        let burst = limit.burst * share.now().min(share.1);
        Self { limit, share, unseen: parking_lot::Mutex::new(Owed { owed: 0.0, burst, at: now }) }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one, at the present share; nothing was taken. Keep the key even so.
    pub fn take(&self, key: &mut Option<Owed>, now: Timestamp) -> Result<(), Duration> {
        let share = self.share.now();
        let (rate, burst) = (self.limit.per_second * share, self.limit.burst * share);
        let unseen = {
            let mut unseen = self.unseen.lock();
            *unseen = unseen.at(rate, burst, now);
            *unseen
        };
        let mut owed = key.map_or(unseen, |owed| owed.at(rate, burst, now));
        // A share of less than one lets one through at a time, at its rate.
        let over = owed.owed + 1.0 - burst.max(1.0);
        if share <= 0.0 || rate <= 0.0 {
            return Err(AGAIN);
        }
        if over > 1e-9 {
            // What it gained counts as seen from now on, and is earned from now on.
            *key = Some(owed);
            return Err(Duration::from_secs_f64((over / rate).min(3600.0)));
        }
        owed.owed += 1.0;
        *key = Some(owed);
        Ok(())
    }

    /// Gives one back, because it does not count after all.
    pub fn give_back(key: &mut Option<Owed>) {
        if let Some(owed) = key {
            owed.owed = (owed.owed - 1.0).max(0.0);
        }
    }

    /// Whether a key is as one that was never seen, and need not be kept.
    #[must_use]
    pub fn is_rested(&self, key: &Owed, now: Timestamp) -> bool {
        let share = self.share.now();
        key.at(self.limit.per_second * share, self.limit.burst * share, now).owed <= 0.0
    }
}

/// Threads overtake each other by less than this; a clock that is further back was set, and what is owed is
/// earned back from there.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// Without a share nothing is admitted; the next round may bring one.
const AGAIN: Duration = Duration::from_secs(1);

impl Owed {
    /// What it comes to now: earned back at `rate`, and whatever burst was gained since is owed.
    fn at(self, rate: f64, burst: f64, now: Timestamp) -> Self {
        let earned = rate * now.since(self.at).as_secs_f64();
        let gained = (burst - self.burst).max(0.0);
        let owed = (self.owed - earned).max(0.0) + gained;
        let was_set_back = self.at.since(now) > OVERTAKEN;
        let at = if was_set_back { now } else { now.max(self.at) };
        Self { owed: owed.min(burst.max(1.0)), burst, at }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_types::Epoch;

    use super::*;

    const LIMIT: Limit = Limit { per_second: 4.0, burst: 12.0 };

    fn held(shares: u16) -> Held {
        let epochs: BTreeMap<_, _> = (0..shares).map(|n| (n, Epoch(1))).collect();
        Held { epochs, valid_until: Instant::now() + Duration::from_secs(600) }
    }

    fn takes(meter: &Meter, key: &mut Option<Owed>, now: Timestamp) -> usize {
        (0..1000).take_while(|_| meter.take(key, now).is_ok()).count()
    }

    fn at(seconds: f64) -> Timestamp {
        Timestamp(1_000_000_000).plus(Duration::from_secs_f64(seconds))
    }

    #[tokio::test]
    async fn a_third_of_everything() {
        let (_keep, share) = watch::channel(held(SHARES / 3));
        let meter = Meter::new(LIMIT, Share::leased(share, 1.0), at(0.0));
        let mut key = None;
        assert_eq!(takes(&meter, &mut key, at(0.0)), 4);
        let wait = meter.take(&mut key, at(0.0)).unwrap_err();
        assert!((wait.as_secs_f64() - 0.75).abs() < 0.01, "{wait:?}");
        assert_eq!(takes(&meter, &mut key, at(1.5)), 2);
        assert_eq!(takes(&meter, &mut key, at(100.0)), 4);
        assert_eq!(takes(&meter, &mut None, at(100.0)), 4, "another key");
    }

    #[tokio::test]
    async fn what_is_gained_is_empty_and_what_is_lost_takes_its_room_along() {
        let (sender, share) = watch::channel(held(SHARES / 2));
        let meter = Meter::new(LIMIT, Share::leased(share, 1.0), at(0.0));
        let (mut used, mut rested) = (None, None);
        assert_eq!(takes(&meter, &mut used, at(0.0)), 6);
        sender.send_replace(held(SHARES));
        assert_eq!(takes(&meter, &mut used, at(0.0)), 0, "the other half may be used up");
        assert_eq!(takes(&meter, &mut rested, at(0.0)), 6);
        assert_eq!(takes(&meter, &mut used, at(60.0)), 12);
        sender.send_replace(held(SHARES / 4));
        assert_eq!(takes(&meter, &mut rested, at(60.0)), 3);
        assert_eq!(takes(&meter, &mut used, at(60.0)), 0);
        sender.send_replace(held(0));
        assert_eq!(takes(&meter, &mut used, at(600.0)), 0);
    }

    #[tokio::test]
    async fn shares_that_ran_out_admit_nothing_and_shares_below_one_admit_slowly() {
        let mut over = held(SHARES);
        over.valid_until = Instant::now();
        let (sender, share) = watch::channel(over);
        let meter = Meter::new(LIMIT, Share::leased(share, 1.0), at(0.0));
        assert_eq!(takes(&meter, &mut None, at(0.0)), 0);
        sender.send_replace(held(1));
        let mut key = None;
        let admitted: usize =
            (0..=480).map(|half| takes(&meter, &mut key, at(f64::from(half) / 2.0))).sum();
        assert!((19..=21).contains(&admitted), "240 s at a twelfth: {admitted}");
    }

    #[test]
    fn alone_it_is_the_limit() {
        let meter = Meter::new(LIMIT, Share::whole(), at(0.0));
        let mut key = None;
        assert_eq!(takes(&meter, &mut key, at(0.0)), 12);
        Meter::give_back(&mut key);
        assert_eq!(takes(&meter, &mut key, at(0.0)), 1);
        assert!(!meter.is_rested(&key.unwrap(), at(1.0)));
        assert!(meter.is_rested(&key.unwrap(), at(3.0)));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let meter = Meter::new(LIMIT, Share::whole(), at(1800.0));
        let mut key = None;
        assert_eq!(takes(&meter, &mut key, at(1800.0)), 12);
        assert_eq!(takes(&meter, &mut key, at(0.0)), 0);
        assert_eq!(takes(&meter, &mut key, at(1.0)), 4);
        assert_eq!(takes(&meter, &mut key, at(0.9)), 0, "one thread before another");
        assert_eq!(takes(&meter, &mut key, at(1.0)), 0);
        assert_eq!(takes(&meter, &mut key, at(2.0)), 4);
        assert_eq!(takes(&meter, &mut None, at(2.0)), 12, "another key");
    }
}
