//! How many enrolments are taken, before anything is looked up for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use muster_cluster::limit::{Limit, Meter, Owed, Share};
use muster_types::Timestamp;
use parking_lot::Mutex;

use crate::listener::{Proxies, source_of};

/// Addresses tracked; beyond it nobody new is tracked, which errs on the side of taking.
const TRACKED_MAX: usize = 65_536;

/// Bounds on enrolments, of all instances together.
#[derive(Clone, Copy, Debug)]
pub struct EnrolmentRates {
    /// With a good secret, all together; a burst of one second.
    pub per_second: u32,
    /// Attempts of one address (of one /64 in IPv6).
    pub source_per_second: u32,
    /// Attempts of one address at once, after a rest.
    pub source_burst: u32,
}

impl Default for EnrolmentRates {
    fn default() -> Self {
        Self { per_second: 200, source_per_second: 20, source_burst: 100 }
    }
}

/// The doors an enrolment passes, shared by the gateways of a process.
///
/// First [`knock`](Self::knock), by address, before anything is read or looked up: it bounds what one
/// address can cost. Then, once the secret was found good, [`enter`](Self::enter), which bounds what
/// enrolments cost the catalog: so those who guess cannot use up the places of those who know.
#[derive(Debug)]
pub struct Enrolments {
    all: Meter,
    owed: Mutex<Option<Owed>>,
    each: Meter,
    proxies: Proxies,
    /// What each address owes; those that owe nothing are forgotten.
    sources: Mutex<HashMap<IpAddr, Owed>>,
}

impl Enrolments {
    /// With these bounds, all of which are this process's. Loopback and trusted proxies, behind which many
    /// agents may be, have none of their own.
    #[must_use]
    pub fn new(rates: EnrolmentRates, proxies: Proxies) -> Self {
        Self::shared(rates, proxies, Share::whole(), Timestamp(0))
    }

    /// The same with this instance's share of the bounds.
    #[must_use]
    pub fn shared(rates: EnrolmentRates, proxies: Proxies, share: Share, now: Timestamp) -> Self {
        let limit = |per_second: u32, burst: u32| Limit {
            per_second: f64::from(per_second.max(1)),
            burst: f64::from(burst.max(1)),
        };
        let all = limit(rates.per_second, rates.per_second);
        let each = limit(rates.source_per_second, rates.source_burst);
        Self {
            all: Meter::new(all, share.clone(), now),
            owed: Mutex::default(),
            each: Meter::new(each, share, now),
            proxies,
            sources: Mutex::default(),
        }
    }

    /// Whether this address may try. The address is the agent's, see [`Proxies::client`].
    ///
    /// # Errors
    /// How long until it may.
    pub fn knock(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        if self.proxies.exempts(address) {
            return Ok(());
        }
        let address = source_of(address);
        let mut sources = self.sources.lock();
        let mut owed = sources.get(&address).copied();
        let is_known = owed.is_some();
        let taken = self.each.take(&mut owed, now);
        if !is_known && sources.len() >= TRACKED_MAX {
            sources.retain(|_, owed| !self.each.is_rested(owed, now));
            if sources.len() >= TRACKED_MAX {
                return taken;
            }
        }
        sources.extend(owed.map(|owed| (address, owed)));
        taken
    }

    /// Whether there is a place for one whose secret is good.
    ///
    /// # Errors
    /// How long until there is.
    pub fn enter(&self, now: Timestamp) -> Result<(), Duration> {
        self.all.take(&mut self.owed.lock(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: EnrolmentRates =
        EnrolmentRates { per_second: 4, source_per_second: 2, source_burst: 3 };
    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn knocks(enrolments: &Enrolments, address: &str, now: Timestamp) -> usize {
        (0..100).take_while(|_| enrolments.knock(address.parse().unwrap(), now).is_ok()).count()
    }

    #[test]
    fn each_address_has_its_burst_and_its_rate() {
        let enrolments = Enrolments::new(RATES, Proxies::new(["10.0.0.1/32".parse().unwrap()]));
        assert_eq!(knocks(&enrolments, "192.0.2.1", NOW), 3);
        let wait = enrolments.knock("192.0.2.1".parse().unwrap(), NOW);
        assert_eq!(wait, Err(Duration::from_millis(500)));
        assert_eq!(knocks(&enrolments, "192.0.2.2", NOW), 3, "another");
        assert_eq!(knocks(&enrolments, "192.0.2.1", NOW.plus(Duration::from_secs(1))), 2);
        assert_eq!(knocks(&enrolments, "2001:db8::1", NOW), 3);
        assert_eq!(knocks(&enrolments, "2001:db8::2", NOW), 0, "the same network");
        assert_eq!(knocks(&enrolments, "127.0.0.1", NOW), 100);
        assert_eq!(knocks(&enrolments, "10.0.0.1", NOW), 100, "a proxy that names nobody");
    }

    #[test]
    fn all_together_have_one_second_of_burst() {
        let enrolments = Enrolments::new(RATES, Proxies::default());
        let enter = |now| (0..100).take_while(|_| enrolments.enter(now).is_ok()).count();
        assert_eq!(enter(NOW), 4);
        assert_eq!(enter(NOW.plus(Duration::from_millis(500))), 2);
        assert_eq!(enter(NOW.plus(Duration::from_secs(60))), 4);
    }

    #[test]
    fn memory_is_bounded() {
        let enrolments = Enrolments::new(RATES, Proxies::default());
        for n in 0..TRACKED_MAX as u32 + 10 {
            let address = std::net::Ipv4Addr::from(0xc000_0000 + n).into();
            enrolments.knock(address, NOW).unwrap();
        }
        assert_eq!(enrolments.sources.lock().len(), TRACKED_MAX);
        let later = NOW.plus(Duration::from_secs(60));
        enrolments.knock("198.51.100.1".parse().unwrap(), later).unwrap();
        assert_eq!(enrolments.sources.lock().len(), 1);
    }
}
