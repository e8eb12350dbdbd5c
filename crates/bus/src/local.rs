//! The embedded bus: hints between the tasks of one process.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::ring::Ring;
use crate::{Bus, Hint, Subscription, Topic};

/// A bus within one process. Dropping it ends all subscriptions.
#[derive(Debug)]
pub struct LocalBus {
    listeners: Arc<Listeners>,
    capacity: usize,
}

/// Who listens to what. A topic without listeners has no entry.
#[derive(Debug, Default)]
struct Listeners(RwLock<HashMap<Topic, Vec<Arc<Ring>>>>);

impl LocalBus {
    /// A bus that keeps at most `capacity` unread hints per subscriber.
    #[must_use]
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { listeners: Arc::default(), capacity })
    }

    /// Tells every subscriber that hints were lost.
    pub(crate) fn gap(&self) {
        for ring in self.listeners.0.read().values().flatten() {
            ring.gap();
        }
    }

    /// Tells the subscribers of these topics that hints were lost.
    pub(crate) fn gap_on(&self, topics: &[Topic]) {
        let listeners = self.listeners.0.read();
        for ring in topics.iter().filter_map(|topic| listeners.get(topic)).flatten() {
            ring.gap();
        }
    }

    /// How many (subscriber, topic) pairs there are; for metrics and tests.
    #[must_use]
    pub fn listener_count(&self) -> usize {
        self.listeners.0.read().values().map(Vec::len).sum()
    }
}

impl Bus for LocalBus {
    fn publish(&self, topic: Topic, content: Bytes) {
        let listeners = self.listeners.0.read();
        for ring in listeners.get(&topic).into_iter().flatten() {
            ring.push(topic.clone(), content.clone());
        }
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        let ring = Arc::new(Ring::new(self.capacity));
        let mut listened: Vec<Topic> = Vec::with_capacity(topics.len());
        let mut listeners = self.listeners.0.write();
        for topic in topics {
            if !listened.contains(topic) {
                listeners.entry(topic.clone()).or_default().push(ring.clone());
                listened.push(topic.clone());
            }
        }
        drop(listeners);
        let listeners = Arc::downgrade(&self.listeners);
        Box::new(LocalSubscription { ring, topics: listened, listeners })
    }
}

impl Drop for LocalBus {
    fn drop(&mut self) {
        for ring in self.listeners.0.write().drain().flat_map(|(_, rings)| rings) {
            ring.close();
        }
    }
}

struct LocalSubscription {
    ring: Arc<Ring>,
    topics: Vec<Topic>,
    listeners: Weak<Listeners>,
}

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Option<Hint> {
        self.ring.next().await
    }
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        let Some(listeners) = self.listeners.upgrade() else { return };
        let mut listeners = listeners.0.write();
        for topic in &self.topics {
            if let Some(rings) = listeners.get_mut(topic) {
                rings.retain(|ring| !Arc::ptr_eq(ring, &self.ring));
                if rings.is_empty() {
                    listeners.remove(topic);
                }
            }
        }
    }
}
