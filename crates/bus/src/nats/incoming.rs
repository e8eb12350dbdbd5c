//! From the other instances to the subscribers here.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use muster_nats::{Connection, Status};
use tokio_stream::StreamMap;

use super::counters::Counters;
use super::interest::Interest;
use super::seal::HintKey;
use super::wire::Subjects;
use crate::Bus as _;
use crate::Topic;
use crate::local::LocalBus;

/// How long the server may take to hear of new subscriptions.
const ROUND_TRIP: Duration = Duration::from_secs(2);

/// Keeps the subscriptions of this instance as its interest is, and passes on what comes.
pub(super) struct Incoming {
    pub(super) connection: Connection,
    pub(super) subjects: Subjects,
    pub(super) key: HintKey,
    pub(super) local: Arc<LocalBus>,
    pub(super) interest: Arc<Interest>,
    pub(super) counters: Arc<Counters>,
}

impl Incoming {
    /// Runs until the connection is gone for good.
    pub(super) async fn run(self) {
        let mut status = self.connection.status();
        let mut seen = status.borrow_and_update().clone();
        let Ok(mut gaps) = self.connection.client().subscribe(self.subjects.gap()).await else {
            return;
        };
        let mut topics: StreamMap<Topic, Subscriber> = StreamMap::new();
        loop {
            tokio::select! {
                biased;
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = status.borrow_and_update().clone();
                    self.look_at(&seen, &now).await;
                    seen = now;
                }
                () = self.interest.changed() => self.subscribe(&mut topics).await,
                gap = gaps.next() => match gap {
                    Some(_) => self.gap(),
                    None => return,
                },
                Some((topic, message)) = topics.next() => self.pass_on(topic, &message),
            }
        }
    }

    /// Everybody is told after whatever may have lost something.
    async fn look_at(&self, before: &Status, now: &Status) {
        if now.connects > before.connects {
            // What is published from the answer on arrives; what was before is covered by the gap.
            self.connection.round_trip(self.subjects.nobody(), ROUND_TRIP).await;
            self.gap();
        } else if now.slow_consumers > before.slow_consumers {
            self.gap();
        }
    }

    fn gap(&self) {
        Counters::add(&self.counters.gaps);
        self.local.gap();
    }

    fn pass_on(&self, topic: Topic, message: &Message) {
        Counters::add(&self.counters.received);
        let content = self.key.open(&message.subject, &message.payload).unwrap_or_else(|| {
            // Somebody who has no key, or an instance of another version. That something may be new is
            // all it says; a gap would take the place of hints that wait.
            Counters::add(&self.counters.unsealed);
            Bytes::new()
        });
        self.local.publish(topic, content);
    }

    /// Begins and ends subscriptions as the interest is now.
    async fn subscribe(&self, topics: &mut StreamMap<Topic, Subscriber>) {
        let (wanted, unsettled) = self.interest.look();
        let gone: Vec<Topic> =
            topics.keys().filter(|topic| !wanted.contains(topic)).cloned().collect();
        for topic in gone {
            topics.remove(&topic);
        }
        let mut new = Vec::new();
        for topic in unsettled.iter().filter(|topic| !topics.contains_key(topic)) {
            match self.connection.client().subscribe(self.subjects.of(topic)).await {
                Ok(subscriber) => new.push((topic.clone(), subscriber)),
                Err(error) => tracing::error!(?topic, %error, "the bus cannot listen"),
            }
        }
        if !new.is_empty() && self.connection.is_connected() {
            self.connection.round_trip(self.subjects.nobody(), ROUND_TRIP).await;
        }
        // Nothing of a new topic is passed on before its gap, so that the gap swallows nothing.
        self.interest.settle(&unsettled);
        self.local.gap_on(&unsettled);
        topics.extend(new);
    }
}
