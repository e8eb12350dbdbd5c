//! The service that keeps an instance's leases, and the handle to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_bus::{Bus, Subscription, Topic};
use muster_catalog::Catalog;
use muster_types::{Format, Incarnation, InstanceId, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limit::{Share, unused};
use crate::member::After;
use crate::{Error, Formats, Held, InstanceInfo, Job, Load, Member, instances};

/// Times of the leases; the same on all instances of an installation.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long after its last renewal an instance counts as gone.
    pub ttl: Duration,
    /// How often it renews.
    pub renew: Duration,
    /// How long after it stopped showing a partition as held it lets another take it.
    pub hand_over: Duration,
    /// How long after its last renewal the shares of limits of an instance that did not say goodbye are
    /// taken over. It may use them for two thirds of that without sight of the catalog.
    pub share_ttl: Duration,
    /// The forms this program reads of other instances.
    pub formats: Vec<Format>,
    /// For so long all instances must have read a newer version before it is written, and older ones are
    /// not let in any more: until then an upgrade can be taken back.
    pub formats_settle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(9),
            renew: Duration::from_secs(3),
            hand_over: Duration::from_millis(250),
            share_ttl: Duration::from_secs(300),
            formats: Vec::new(),
            formats_settle: Duration::from_secs(24 * 3600),
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
    frontends: watch::Receiver<usize>,
    formats: Formats,
    /// The parts of limits that nobody had used at the start.
    began: Arc<BTreeMap<Job, f64>>,
}

/// Tells how busy this process is.
type TellLoad = Box<dyn FnMut() -> Load + Send>;

/// Renews the leases; to be run.
pub struct Service {
    member: Member,
    bus: Arc<dyn Bus>,
    hints: Box<dyn Subscription>,
    options: Options,
    next: Instant,
    load: Option<TellLoad>,
}

/// Two rounds on hints are at least this far apart.
const HINTED_ROUNDS_APART: Duration = Duration::from_millis(50);

/// Whether it may be over in a moment.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Catalog(muster_catalog::Error::Unavailable(_)))
}

/// Registers; waits for an instance that is in the way as long as it may only have vanished.
async fn register(
    catalog: &Catalog,
    info: &InstanceInfo,
    options: &Options,
) -> Result<Member, Error> {
    let deadline = Instant::now() + options.ttl + options.renew;
    let mut first: Option<(InstanceId, Timestamp)> = None;
    loop {
        let clash = match Member::register(catalog.clone(), info, options.clone()).await {
            Err(Error::Clash(clash)) => clash,
            // Many that start at once wait for each other; on a busy machine that takes a while.
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "registering is tried again");
                tokio::time::sleep(options.renew / 6).await;
                continue;
            }
            other => return other,
        };
        let all = instances(catalog).await?;
        let seen = all.iter().find(|other| other.info.id == clash.id).map(|it| it.heartbeat_at);
        match (first, seen) {
            (Some((id, before)), Some(now)) if id == clash.id && now > before => {
                return Err(clash.into());
            }
            (Some((id, _)), _) if id == clash.id => {}
            (_, Some(now)) => {
                tracing::warn!(%clash, "waiting to see whether it still lives");
                first = Some((clash.id, now));
            }
            (_, None) => {}
        }
        if Instant::now() >= deadline {
            return Err(clash.into());
        }
        tokio::time::sleep(options.renew / 6).await;
    }
}

impl Cluster {
    /// Registers this process and takes its share of every lease that is free: a lone instance
    /// holds all of them when this returns.
    ///
    /// An instance that this one cannot be beside gets the time it takes to see whether it still lives:
    /// one that renews meanwhile is in the way, one that does not is gone.
    ///
    /// # Errors
    /// [`Error::Clash`] with the instance that is in the way, or the catalog's.
    pub async fn start(
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        info: InstanceInfo,
        options: Options,
    ) -> Result<(Self, Service), Error> {
        let hints = bus.subscribe(&[Topic::Cluster]);
        let mut member = Box::pin(register(&catalog, &info, &options)).await?;
        // Whoever takes old parts of the store away looks at who is registered: only now is it certain
        // that nobody has done so unseen.
        catalog.verify().await?;
        let deadline = Instant::now() + options.ttl;
        let After { next, alone, .. } = loop {
            match Box::pin(member.round()).await {
                Ok(after) => break after,
                Err(error) if is_passing(&error) && Instant::now() < deadline => {
                    tracing::warn!(%error, "the first look at the leases is tried again");
                    tokio::time::sleep(options.renew / 6).await;
                }
                Err(error) => return Err(error),
            }
        };
        let began = Job::ALL.map(|job| (job, unused(&member.leases(job).borrow(), alone))).into();
        let leases = Job::ALL.map(|job| (job, member.leases(job))).into();
        let cluster = Self {
            id: info.id,
            incarnation: member.incarnation(),
            leases: Arc::new(leases),
            level: member.level(),
            frontends: member.frontends(),
            formats: member.formats(),
            began: Arc::new(began),
        };
        // Others have to share with the newcomer.
        bus.publish(Topic::Cluster, Bytes::new());
        Ok((cluster, Service { member, bus, hints, options, next, load: None }))
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

    /// This instance's part of a limit; `job` is one of those whose partitions are shares.
    #[must_use]
    pub fn share(&self, job: Job) -> Share {
        debug_assert!(job.is_share(), "{job:?} is work, not a limit");
        let began = self.began.get(&job).copied().unwrap_or(0.0);
        Share::leased(self.leases(job), began)
    }

    /// How many other live instances take agents, as of the last heartbeat.
    #[must_use]
    pub fn other_frontends(&self) -> usize {
        *self.frontends.borrow()
    }

    /// Which version of each form to write.
    #[must_use]
    pub fn formats(&self) -> Formats {
        self.formats.clone()
    }

    /// The lowest level of all live instances.
    #[must_use]
    pub fn level(&self) -> u32 {
        *self.level.borrow()
    }
}

impl Service {
    /// With something that tells how busy this process is; asked before each heartbeat.
    #[must_use]
    pub fn with_load(mut self, load: impl FnMut() -> Load + Send + 'static) -> Self {
        self.load = Some(Box::new(load));
        self
    }

    /// Renews until `shutdown`, then lets everything go at once. Dropped, the leases expire.
    ///
    /// Whoever works under a lease must have stopped before `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`Error::Superseded`], [`Error::Clash`]: the process must stop.
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
            if let Some(load) = &mut self.load {
                self.member.set_load(&load());
            }
            match self.member.round().await {
                Ok(after) => {
                    self.next = after.next;
                    if after.changed {
                        self.bus.publish(Topic::Cluster, Bytes::new());
                    }
                }
                Err(error) if error.is_final() => return Err(error),
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
