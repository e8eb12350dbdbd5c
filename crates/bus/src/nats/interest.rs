//! Which topics something in this instance listens to.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Topic;

/// Counts listeners by topic.
#[derive(Debug, Default)]
pub(super) struct Interest {
    topics: Mutex<HashMap<Topic, Listened>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Listened {
    listeners: usize,
    /// The server knows of it.
    settled: bool,
}

impl Interest {
    pub(super) fn add(&self, topics: &[Topic]) {
        let mut listened = self.topics.lock();
        for topic in distinct(topics) {
            listened.entry(topic.clone()).or_default().listeners += 1;
        }
        drop(listened);
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, topics: &[Topic]) {
        let mut listened = self.topics.lock();
        for topic in distinct(topics) {
            if let Some(entry) = listened.get_mut(topic) {
                entry.listeners -= 1;
                if entry.listeners == 0 {
                    listened.remove(topic);
                }
            }
        }
        drop(listened);
        self.changed.notify_one();
    }

    /// Somebody listens and the server does not know of it yet.
    pub(super) fn is_settling(&self, topic: &Topic) -> bool {
        self.topics.lock().get(topic).is_some_and(|entry| !entry.settled)
    }

    /// Waits until topics came or went since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// All topics, and those of them that are not settled.
    pub(super) fn look(&self) -> (HashSet<Topic>, Vec<Topic>) {
        let listened = self.topics.lock();
        let unsettled = listened.iter().filter(|(_, entry)| !entry.settled);
        let unsettled = unsettled.map(|(topic, _)| topic.clone()).collect();
        (listened.keys().cloned().collect(), unsettled)
    }

    /// The server knows of these now.
    pub(super) fn settle(&self, topics: &[Topic]) {
        let mut listened = self.topics.lock();
        for topic in topics {
            if let Some(entry) = listened.get_mut(topic) {
                entry.settled = true;
            }
        }
    }
}

fn distinct(topics: &[Topic]) -> HashSet<&Topic> {
    topics.iter().collect()
}
