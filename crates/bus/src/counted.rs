//! A bus that counts what is published on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::{Bus, Subscription, Topic};

/// Counts, and passes on. That work without news needs no bus can only be shown by counting.
pub struct CountedBus {
    inner: Arc<dyn Bus>,
    published: AtomicU64,
}

impl CountedBus {
    /// In front of this bus.
    #[must_use]
    pub fn new(inner: Arc<dyn Bus>) -> Arc<Self> {
        Arc::new(Self { inner, published: AtomicU64::new(0) })
    }

    /// How many hints were published through this handle.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl Bus for CountedBus {
    fn publish(&self, topic: Topic, content: Bytes) {
        self.published.fetch_add(1, Ordering::Relaxed);
        self.inner.publish(topic, content);
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        self.inner.subscribe(topics)
    }
}
