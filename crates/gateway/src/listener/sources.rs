//! How many connections each address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::proxies::source_of;

/// Open connections by address; as many entries as there are connections at most.
#[derive(Debug)]
pub(super) struct Sources {
    max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among those of its address; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Sources {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    /// A place, unless the address has as many as it may.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = source_of(address);
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place { sources: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sources.open.lock();
        let Some(count) = open.get_mut(&self.address) else { return };
        *count -= 1;
        if *count == 0 {
            open.remove(&self.address);
            if open.capacity() > 4 * open.len() + 1024 {
                open.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_for_itself_and_places_come_back() {
        let sources = Sources::new(2);
        let enter = |address: &str| sources.enter(address.parse().unwrap());
        let (first, _second) = (enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").unwrap();
        drop(first);
        let _third = enter("192.0.2.1").unwrap();
        let _one = enter("2001:db8::1").unwrap();
        let _two = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none(), "one network");
        drop((_other, _third, _second, _one, _two));
        assert!(sources.open.lock().is_empty());
    }
}
