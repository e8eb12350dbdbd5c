//! How often one account may ask, over all instances: this one's share of it.

use std::time::Duration;

use muster_cluster::limit::{Limit, Meter, Owed, Share};
use muster_types::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::problem::{Code, Problem, Result};

/// Accounts fall into so many slots; two that fall together share an allowance.
const SLOTS: usize = 4_096;
/// A request waits for so long at most instead of being refused.
const MOMENT: Duration = Duration::from_millis(100);

/// Requests of one account.
#[derive(Clone, Copy, Debug)]
pub struct RequestRate {
    /// Sustained, over all instances.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// Counts requests by account, in constant memory.
pub(crate) struct Requests {
    meter: Meter,
    slots: Mutex<Vec<Option<Owed>>>,
}

impl Requests {
    pub(crate) fn new(rate: RequestRate, share: Share, now: Timestamp) -> Self {
        let limit =
            Limit { per_second: f64::from(rate.per_second), burst: f64::from(rate.burst.max(1)) };
        Self { meter: Meter::new(limit, share, now), slots: Mutex::new(vec![None; SLOTS]) }
    }

    /// Takes one request of an account. Waits for a moment rather than refuse: a share that was gained just
    /// now is empty, and nobody who asked another instance before should notice.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub(crate) async fn take(&self, account: u64, clock: &dyn Clock) -> Result<()> {
        let Err(wait) = self.try_take(account, clock.now()) else { return Ok(()) };
        if wait <= MOMENT {
            tokio::time::sleep(wait + Duration::from_millis(2)).await;
            if self.try_take(account, clock.now()).is_ok() {
                return Ok(());
            }
        }
        let seconds = u32::try_from((wait + Duration::from_millis(999)).as_secs()).unwrap_or(60);
        Err(Problem::new(Code::TooMany, "too many requests of this account; slow down")
            .retry_after(seconds.max(1)))
    }

    fn try_take(&self, account: u64, now: Timestamp) -> std::result::Result<(), Duration> {
        let slot = usize::try_from(account % SLOTS as u64).unwrap_or(0);
        self.meter.take(&mut self.slots.lock()[slot], now)
    }
}
