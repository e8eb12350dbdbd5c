//! Watches that are opened when a live query is asked, before anybody can answer it.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Subscription, Topic};
use muster_types::{HuntNo, Timestamp};
use parking_lot::Mutex;

/// A watch that nobody took up by then is closed.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
const WATCHES_MAX: usize = 256;

struct Watch {
    hints: Box<dyn Subscription>,
    opened_at: Timestamp,
}

/// Watches waiting for their reader. Bounded; one that is missing costs a look into the segments.
#[derive(Default)]
pub(crate) struct Watches(Mutex<HashMap<HuntNo, Watch>>);

impl Watches {
    /// Listens to the rows of a hunt from now on and tells the workers so.
    pub(crate) fn open(&self, bus: &dyn Bus, hunt: HuntNo, now: Timestamp) {
        let mut waiting = self.0.lock();
        waiting.retain(|_, watch| now.since(watch.opened_at) < TAKEN_WITHIN);
        if waiting.len() < WATCHES_MAX {
            let hints = bus.subscribe(&[Topic::Live(hunt)]);
            waiting.insert(hunt, Watch { hints, opened_at: now });
        }
        drop(waiting);
        announce(bus, hunt);
    }

    /// The watch that was opened for this hunt.
    pub(super) fn take(&self, hunt: HuntNo) -> Option<Box<dyn Subscription>> {
        self.0.lock().remove(&hunt).map(|watch| watch.hints)
    }
}

/// Says that this hunt is watched; workers forget it after half a minute.
pub(super) fn announce(bus: &dyn Bus, hunt: HuntNo) {
    bus.publish(Topic::Watch, Bytes::from(format!("[{hunt}]")));
}
