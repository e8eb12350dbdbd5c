//! Re-reads all rules, on one instance at a time.

use std::sync::Arc;
use std::time::Duration;

use muster_bus::{Bus, Hint, Topic};
use muster_catalog::{Catalog, Error};
use muster_cluster::Held;
use muster_endpoints::Directory;
use muster_types::Clock;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::store::{apply, fail, forget};
use super::{Ask, AskError, Rule, list, members};

/// With the time a pass takes, a rule is asked again within a minute.
const EVERY: Duration = Duration::from_secs(45);
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// How long changes are kept.
const KEPT: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The one partition of the job it runs under.
const PARTITION: u16 = 0;

/// Keeps labels in step with their rules while this instance holds the lease of scheduled tasks.
pub struct Evaluator {
    catalog: Catalog,
    bus: Arc<dyn Bus>,
    directory: Directory,
    clock: Arc<dyn Clock>,
    ask: Arc<dyn Ask>,
    leases: watch::Receiver<Held>,
}

impl Evaluator {
    /// `leases` are those of [`muster_cluster::Job::Schedule`].
    #[must_use]
    pub fn new(
        catalog: Catalog,
        bus: Arc<dyn Bus>,
        directory: Directory,
        clock: Arc<dyn Clock>,
        ask: Arc<dyn Ask>,
        leases: watch::Receiver<Held>,
    ) -> Self {
        Self { catalog, bus, directory, clock, ask, leases }
    }

    /// Asks new rules on a hint and all of them every 45 seconds, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut hints = self.bus.subscribe(&[Topic::Inventory]);
        let (mut tick, mut tidy) = (interval(EVERY), interval(FORGET_EVERY));
        for ticks in [&mut tick, &mut tidy] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let done = tokio::select! {
                () = shutdown.cancelled() => return,
                hint = hints.next() => match hint {
                    Some(Hint::Message(_, content)) if !content.is_empty() => continue,
                    Some(_) => self.pass(|rule| rule.evaluated_at.is_none(), &shutdown).await,
                    None => return,
                },
                _ = tick.tick() => self.pass(|_| true, &shutdown).await,
                _ = tidy.tick() => self.tidy().await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "labels by rule could not be kept; it will be tried again");
            }
        }
    }

    /// Asks every rule once, now.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// Safe: a rule is written whole or not at all.
    pub async fn evaluate(&self) -> Result<(), Error> {
        self.pass(|_| true, &CancellationToken::new()).await
    }

    async fn tidy(&self) -> Result<(), Error> {
        if !self.leases.borrow().is_valid() {
            return Ok(());
        }
        forget(&self.catalog, self.clock.now().minus(KEPT)).await
    }

    async fn pass(
        &self,
        wanted: impl Fn(&Rule) -> bool,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        if self.leases.borrow().epoch(PARTITION).is_none() {
            return Ok(());
        }
        let rules: Vec<Rule> = list(&self.catalog).await?.into_iter().filter(wanted).collect();
        let mut changed = false;
        // They come by owner, so that those of one owner are asked together.
        for group in rules.chunk_by(|a, b| (a.org, a.owner_no) == (b.org, b.owner_no)) {
            let done = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                done = self.group(group) => done?,
            };
            changed |= done;
        }
        if changed {
            self.directory.announce().await?;
        }
        Ok(())
    }

    async fn group(&self, rules: &[Rule]) -> Result<bool, Error> {
        let Some(first) = rules.first() else { return Ok(false) };
        // What is asked under a lease is written under that one: this process may lose it, stand still, and
        // have it anew before it writes, and another has written meanwhile.
        let Some(epoch) = self.leases.borrow().epoch(PARTITION) else { return Ok(false) };
        // A refreshed directory, so that what is written is the difference to what is there.
        let snapshot = self.directory.refresh().await?;
        let answers = match self.ask.access(first.org, first.owner_no).await {
            Ok(access) => {
                let queries: Vec<&str> = rules.iter().map(|rule| &*rule.query).collect();
                members(&*self.ask, &snapshot, &access, &queries).await
            }
            Err(error) => vec![Err(error); rules.len()],
        };
        let mut changed = false;
        for (rule, answer) in rules.iter().zip(answers) {
            if self.leases.borrow().epoch(PARTITION) != Some(epoch) {
                return Ok(changed);
            }
            let now = self.clock.now();
            match answer {
                Ok(new) => {
                    let label = snapshot.label(rule.org, &rule.label);
                    let Some(old) = label.map(|label| &label.members) else { continue };
                    let written = apply(&self.catalog, rule, (old, &new), epoch, now).await?;
                    changed |= written && *old != new;
                }
                // Not the rule's fault, so nothing to show: it is asked again.
                Err(AskError::Unavailable(why)) => {
                    tracing::warn!(label = rule.label, why, "a rule could not be asked");
                }
                Err(error) => {
                    fail(&self.catalog, rule, &error.to_string(), epoch, now).await?;
                }
            }
        }
        Ok(changed)
    }
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluator")
    }
}
