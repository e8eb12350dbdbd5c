//! The service that keeps an instance's leases, and the handle to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Subscription, Topic};
use muster_catalog::Catalog;
use muster_types::{Incarnation, InstanceId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, Held, InstanceInfo, Job, Member};

/// Times of the leases; the same on all instances of an installation.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long after its last renewal an instance counts as gone.
    pub ttl: Duration,
    /// How often it renews.
    pub renew: Duration,
    /// How long after it stopped showing a partition as held it lets another take it.
    pub hand_over: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(9),
            renew: Duration::from_secs(3),
            hand_over: Duration::from_millis(250),
        }
    }
}

/// A handle to this instance's place in the cluster; cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    id: InstanceId,
    incarnation: Incarnation,
    leases: Arc<BTreeMap<Job, watch::Receiver<Held>>>,
    level: watch::Receiver<u32>,
}

/// Renews the leases; to be run.
pub struct Service {
    member: Member,
    bus: Arc<dyn Bus>,
    hints: Box<dyn Subscription>,
    options: Options,
    next: Instant,
}

/// Two rounds on hints are at least this far apart.
const HINTED_ROUNDS_APART: Duration = Duration::from_millis(50);

impl Cluster {
    /// Registers this process and takes its share of every lease that is free: a lone instance
    /// holds all of them when this returns.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn start(
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        info: InstanceInfo,
        options: Options,
    ) -> Result<(Self, Service), Error> {
        let hints = bus.subscribe(&[Topic::Cluster]);
        let mut member = Member::register(catalog, &info, options.clone()).await?;
        let next = member.round().await?.next;
        let leases = Job::ALL.map(|job| (job, member.leases(job))).into();
        let cluster = Self {
            id: info.id,
            incarnation: member.incarnation(),
            leases: Arc::new(leases),
            level: member.level(),
        };
        // Others have to share with the newcomer.
        bus.publish(Topic::Cluster, Bytes::new());
        Ok((cluster, Service { member, bus, hints, options, next }))
    }

    /// This instance.
    #[must_use]
    pub fn me(&self) -> InstanceId {
        self.id
    }

    /// How often this instance has started.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What is held of a job, as it changes; renewed every few seconds. When the sender is gone
    /// the last value holds until it expires.
    #[must_use]
    pub fn leases(&self, job: Job) -> watch::Receiver<Held> {
        self.leases[&job].clone()
    }

    /// The newest format all live instances read; write no newer ones.
    #[must_use]
    pub fn level(&self) -> u32 {
        *self.level.borrow()
    }
}

impl Service {
    /// Renews until `shutdown`, then lets everything go at once. Dropped, the leases expire.
    ///
    /// Whoever works under a lease must have stopped before `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`Error::Superseded`]: the process must stop.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut bus_is_alive = true;
        let mut last = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep_until(self.next) => {}
                hint = self.hints.next(), if bus_is_alive => {
                    bus_is_alive = hint.is_some();
                    self.next = self.next.min(last + HINTED_ROUNDS_APART);
                    continue;
                }
            }
            last = Instant::now();
            match self.member.round().await {
                Ok(after) => {
                    self.next = after.next;
                    if after.changed {
                        self.bus.publish(Topic::Cluster, Bytes::new());
                    }
                }
                Err(Error::Superseded) => return Err(Error::Superseded),
                Err(error) => {
                    tracing::warn!(%error, "renewing the leases failed");
                    self.next = last + self.options.renew / 6;
                }
            }
        }
        if let Err(error) = self.member.leave().await {
            tracing::warn!(%error, "the leases could not be released; they expire");
        }
        self.bus.publish(Topic::Cluster, Bytes::new());
        Ok(())
    }
}
