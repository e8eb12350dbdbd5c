//! An instance's own view of its leases; moved on by rounds.

use std::collections::{BTreeMap, BTreeSet};

use muster_catalog::Catalog;
use muster_types::{Epoch, Incarnation};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::formats::{self, Formats, Written};
use crate::round::{self, Partition, Terms};
use crate::{Error, Held, InstanceInfo, Job, Load, Options, instance};

/// The state behind [`crate::Service`]; by itself only for tests that decide when rounds happen.
#[derive(Debug)]
pub struct Member {
    catalog: Catalog,
    info: InstanceInfo,
    incarnation: Incarnation,
    options: Options,
    /// How busy it is, as JSON; what the next heartbeat tells.
    load: String,
    held: BTreeMap<Job, watch::Sender<Held>>,
    level: watch::Sender<u32>,
    frontends: watch::Sender<usize>,
    written: watch::Sender<Written>,
    formats: Formats,
    /// Surplus partitions, no longer shown as held since then.
    surplus: BTreeMap<Partition, Instant>,
}

/// What a successful round asks of its caller.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// Others have something to do: hint.
    pub changed: bool,
    /// No other instance lives.
    pub alone: bool,
    /// When the next round is due at the latest.
    pub next: Instant,
}

impl Member {
    /// Registers this start.
    ///
    /// # Errors
    /// [`Error::Clash`] when a live instance cannot be beside this one, or the catalog's.
    pub async fn register(
        catalog: Catalog,
        info: &InstanceInfo,
        options: Options,
    ) -> Result<Self, Error> {
        let mut info = info.clone();
        let reads = options.formats.iter().map(|format| (format.name.to_owned(), format.newest));
        info.facts.reads = reads.collect();
        let incarnation = instance::register(&catalog, &info, options.ttl).await?;
        let held = Job::ALL.map(|job| (job, watch::Sender::new(Held::nothing()))).into();
        let (level, surplus) = (watch::Sender::new(info.level), BTreeMap::new());
        let load = "{}".to_owned();
        let frontends = watch::Sender::new(0);
        let (written, formats) = Formats::channel();
        Ok(Self {
            catalog,
            info,
            incarnation,
            options,
            load,
            held,
            level,
            frontends,
            written,
            formats,
            surplus,
        })
    }

    /// What the next heartbeat tells of how busy it is.
    pub fn set_load(&mut self, load: &Load) {
        self.load = serde_json::to_string(load).unwrap_or_else(|_| "{}".to_owned());
    }

    /// This instance's number of starts.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What is held of a job, as it changes.
    #[must_use]
    pub fn leases(&self, job: Job) -> watch::Receiver<Held> {
        self.held[&job].subscribe()
    }

    /// The lowest level among live instances, as it changes.
    #[must_use]
    pub fn level(&self) -> watch::Receiver<u32> {
        self.level.subscribe()
    }

    /// Which version of each form to write.
    #[must_use]
    pub fn formats(&self) -> Formats {
        self.formats.clone()
    }

    /// How many other live instances take agents and are not draining, as it changes.
    #[must_use]
    pub fn frontends(&self) -> watch::Receiver<usize> {
        self.frontends.subscribe()
    }

    /// Renews, releases and takes.
    ///
    /// # Errors
    /// [`Error::Superseded`] and [`Error::Clash`] when this process must stop; others are worth another
    /// round.
    pub async fn round(&mut self) -> Result<After, Error> {
        let sent = Instant::now();
        let ready = |since: &Instant| sent.duration_since(*since) >= self.options.hand_over;
        let let_go: BTreeSet<_> =
            self.surplus.iter().filter(|(_, since)| ready(since)).map(|(p, _)| *p).collect();
        let terms = Terms {
            info: &self.info,
            incarnation: self.incarnation,
            options: &self.options,
            load: &self.load,
            let_go: &let_go,
        };
        let run = round::run(&self.catalog, &terms);
        // A later answer would be about leases that are over.
        let round = match tokio::time::timeout(self.options.ttl, run).await {
            Ok(Ok(round)) => round,
            Ok(Err(error)) => {
                let over = error.is_final();
                self.check(|_| over);
                return Err(error);
            }
            Err(_) => {
                self.check(|job| !job.is_share());
                let late = "no answer within the time to live of a lease".to_owned();
                return Err(muster_catalog::Error::Unavailable(late).into());
            }
        };
        self.publish(&round.held, sent);
        self.level.send_replace(round.level);
        self.frontends.send_replace(round.frontends);
        self.written.send_replace(round.written);
        if round.formats_due {
            self.advance_formats().await;
        }
        let shown_until = Instant::now();
        self.surplus.retain(|partition, _| round.surplus.contains(partition));
        for partition in round.surplus {
            self.surplus.entry(partition).or_insert(shown_until);
        }
        let renew = sent + self.options.renew;
        let next = match self.surplus.values().min() {
            Some(since) => renew.min(*since + self.options.hand_over),
            None => renew,
        };
        Ok(After { changed: round.changed, alone: round.alone, next })
    }

    /// What fails here is due again in the next round; until then an older version is written.
    async fn advance_formats(&self) {
        let Options { formats, formats_settle, renew, .. } = &self.options;
        let advance = formats::advance(&self.catalog, formats, *formats_settle);
        match tokio::time::timeout(*renew, advance).await {
            Ok(Ok(written)) => _ = self.written.send_replace(written),
            Ok(Err(error)) => tracing::debug!(%error, "the versions of forms are looked at again"),
            Err(_) => {
                tracing::debug!("the versions of forms are looked at again: no answer in time");
            }
        }
    }

    fn publish(&self, held: &BTreeMap<Partition, Epoch>, sent: Instant) {
        for (job, sender) in &self.held {
            let options = &self.options;
            let ttl = if job.is_share() { options.share_ttl } else { options.ttl };
            let valid_until = sent + ttl * 2 / 3;
            let epochs = held.iter().filter(|((of, _), _)| of == job);
            let epochs = epochs.map(|((_, n), epoch)| (*n, *epoch)).collect();
            sender.send_replace(Held { epochs, valid_until });
        }
    }

    /// Shows nothing as held once the time is over, or at once.
    fn check(&self, at_once: impl Fn(Job) -> bool) {
        for (job, sender) in &self.held {
            sender.send_if_modified(|held| {
                let over = at_once(*job) || Instant::now() >= held.valid_until;
                let lost = over && !held.epochs.is_empty();
                if lost {
                    *held = Held::nothing();
                }
                lost
            });
        }
    }

    /// Stops showing anything as held, then lets it go for others to take.
    ///
    /// # Errors
    /// When the catalog fails; the leases then expire.
    pub async fn leave(self) -> Result<(), Error> {
        self.check(|_| true);
        round::leave(&self.catalog, (self.info.id, self.incarnation)).await
    }
}
