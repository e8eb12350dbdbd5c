//! The bus between instances, on NATS core.
//!
//! Each topic is a subject, and an instance subscribes to those that something in it listens to: the
//! live rows of a hunt travel only to whoever watches it. Subscribers of the publishing instance
//! are told directly and the connection does not echo, so hints within an instance arrive also
//! while NATS is away.
//!
//! What is published goes through a bounded buffer; what does not fit, or is published while there
//! is no server, is dropped and counted. As nobody else could know of that, an instance that dropped
//! something says so to all others as soon as it can, and their subscribers get a [`Hint::Gap`].
//! They get one too after their own connection came back, and when they or the
//! connection were too slow.
//!
//! Content is sealed by a [`HintKey`]. Of a message that no instance sealed, subscribers get an empty
//! hint: it makes them look into the catalog, and nothing else.

mod counters;
mod incoming;
mod interest;
mod outgoing;
mod seal;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use muster_nats::{ConnectError, Connection, Options};
use tokio::task::JoinHandle;

use self::incoming::Incoming;
use self::interest::Interest;
use self::outgoing::Outgoing;
use self::wire::Subjects;
use crate::local::LocalBus;
use crate::{Bus, Hint, Subscription, Topic};

pub use self::counters::Counters;
pub use self::seal::HintKey;

/// A bus on NATS. Dropping it ends all subscriptions.
pub struct NatsBus {
    local: Arc<LocalBus>,
    interest: Arc<Interest>,
    outgoing: Outgoing,
    connection: Connection,
    counters: Arc<Counters>,
    tasks: [JoinHandle<()>; 2],
}

impl NatsBus {
    /// Connects, on a connection of its own so that hints do not wait behind records. `prefix` begins
    /// all subjects; `key` is the same in all instances of an installation, and in nobody else; at most
    /// `capacity` hints are kept for a subscriber that does not read. Without a
    /// server this succeeds after [`Options::first_wait`], and hints stay within this instance until
    /// there is one.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn open(
        mut options: Options,
        prefix: &str,
        key: HintKey,
        capacity: usize,
    ) -> Result<Arc<Self>, ConnectError> {
        options.echo = false;
        let connection = muster_nats::connect(&options).await?;
        let subjects = Subjects::new(prefix);
        let local = LocalBus::new(capacity);
        let interest = Arc::new(Interest::default());
        let counters = Arc::new(Counters::default());
        let (outgoing, pump) =
            Outgoing::new(connection.clone(), subjects.clone(), key.clone(), counters.clone());
        let incoming = Incoming {
            connection: connection.clone(),
            subjects,
            key,
            local: local.clone(),
            interest: interest.clone(),
            counters: counters.clone(),
        };
        let tasks = [tokio::spawn(pump.run()), tokio::spawn(incoming.run())];
        Ok(Arc::new(Self { local, interest, outgoing, connection, counters, tasks }))
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Waits until what was published before is on its way to the server, at most `most`: a process that
    /// ends at once takes its last hints with it.
    ///
    /// # Cancel safety
    /// Safe: hints go on.
    pub async fn flush(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.outgoing.written()).await;
    }

    /// Its connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Bus for NatsBus {
    fn publish(&self, topic: Topic, content: Bytes) {
        // Who listens to a topic that is just being subscribed to gets a gap in a moment, which would
        // swallow this hint and covers it.
        if !self.interest.is_settling(&topic) || !self.connection.is_connected() {
            self.local.publish(topic.clone(), content.clone());
        }
        self.outgoing.push(&topic, content);
    }

    fn subscribe(&self, topics: &[Topic]) -> Box<dyn Subscription> {
        // In this order, so that the gap at the beginning finds the subscriber.
        let inner = self.local.subscribe(topics);
        self.interest.add(topics);
        let (topics, interest) = (topics.to_vec(), self.interest.clone());
        Box::new(NatsSubscription { inner, topics, interest })
    }
}

struct NatsSubscription {
    inner: Box<dyn Subscription>,
    topics: Vec<Topic>,
    interest: Arc<Interest>,
}

#[async_trait]
impl Subscription for NatsSubscription {
    async fn next(&mut self) -> Option<Hint> {
        self.inner.next().await
    }
}

impl Drop for NatsSubscription {
    fn drop(&mut self) {
        self.interest.remove(&self.topics);
    }
}
