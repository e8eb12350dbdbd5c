//! A bus that counts what goes through it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use muster_types::measure::Counter;

use crate::{Bus, Hint, Subscription, Topic};

/// Counts, and passes on. That work without news needs no bus can only be shown by counting.
pub struct CountedBus {
    inner: Arc<dyn Bus>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    published: Counter,
    received: Counter,
    gaps: Counter,
}

impl CountedBus {
    /// In front of this bus.
    #[must_use]
    pub fn new(inner: Arc<dyn Bus>) -> Arc<Self> {
        Arc::new(Self { inner, counts: Arc::default() })
    }

    /// How many hints were published through this handle.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.counts.published.get()
    }

    /// How many hints were taken by subscribers of this handle.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.counts.received.get()
    }

    /// How often a subscriber of this handle was told that hints were lost.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.counts.gaps.get()
    }
}

impl Bus for CountedBus {
    fn publish(&self, topic: Topic, content: Bytes) {
        self.counts.published.inc();
        self.inner.publish(topic, content);
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        let inner = self.inner.subscribe(topics);
        Box::new(Counted { inner, counts: self.counts.clone() })
    }
}

struct Counted {
    inner: Box<dyn Subscription>,
    counts: Arc<Counts>,
}

#[async_trait]
impl Subscription for Counted {
    async fn next(&mut self) -> Option<Hint> {
        let hint = self.inner.next().await;
        match &hint {
            Some(Hint::Message(..)) => self.counts.received.inc(),
            Some(Hint::Gap) => self.counts.gaps.inc(),
            None => {}
        }
        hint
    }
}
