//! The service that answers requests for this instance's part.

use std::sync::Arc;
use std::time::Duration;

use muster_archive::Archive;
use muster_bus::{Bus, Topic};
use muster_catalog::Catalog;
use muster_types::Clock;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{ANSWER_TIME, Error, KEPT, Request, Sources, store};

/// Requests are looked for this often; a hint about the cluster makes it sooner.
const EVERY: Duration = Duration::from_secs(5);
/// Two looks on hints are at least this far apart.
const HINTED_APART: Duration = Duration::from_millis(250);
/// Old requests are removed this often.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// Answers requests; to be run on every instance.
pub struct Service {
    catalog: Catalog,
    archive: Archive,
    bus: Arc<dyn Bus>,
    sources: Sources,
    tidy: Tidy,
}

impl Service {
    /// A service over these stores.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        archive: Archive,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        sources: Sources,
    ) -> Self {
        let tidy = Tidy::new(catalog.clone(), archive.clone(), clock);
        Self { catalog, archive, bus, sources, tidy }
    }

    /// Works until `shutdown`. What is cut short is named as missing by whoever waits for it.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(Box::pin(self.work())).await;
    }

    async fn work(&self) {
        let mut hints = self.bus.subscribe(&[Topic::Cluster]);
        let mut bus_is_alive = true;
        let (mut look, mut tidy) = (interval(EVERY), interval(TIDY_EVERY));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                _ = look.tick() => {}
                _ = tidy.tick() => {
                    if let Err(error) = self.tidy.run(KEPT).await {
                        tracing::debug!(%error, "old debug archives could not be removed");
                    }
                    continue;
                }
                hint = hints.next(), if bus_is_alive => {
                    bus_is_alive = hint.is_some();
                    look.reset_at((last + HINTED_APART).max(Instant::now()));
                    continue;
                }
            }
            last = Instant::now();
            if let Err(error) = self.answer_all().await {
                // The next look is soon, and the asker is told who did not answer.
                tracing::debug!(%error, "requests for debug archives could not be answered");
            }
        }
    }

    async fn answer_all(&self) -> Result<(), Error> {
        for request in store::open(&self.catalog, self.sources.instance).await? {
            let time = Duration::from_secs(request.seconds.into()) + ANSWER_TIME;
            let put = tokio::time::timeout(time, self.put(&request)).await;
            let put = put
                .map_err(|_| "it took too long".to_owned())
                .and_then(|put| put.map_err(|error| error.to_string()));
            let told = put.as_ref().map(|(name, count)| (name.as_str(), *count));
            let told = told.map_err(String::as_str);
            store::answer(&self.catalog, request.no, self.sources.instance, told).await?;
        }
        Ok(())
    }

    async fn put(&self, request: &Request) -> Result<(String, u64), Error> {
        let part = self.sources.collect(request.seconds, request.requested_at).await?;
        let name = format!("debug/v1/{}-{}", request.no, Uuid::now_v7());
        let byte_count = part.len() as u64;
        self.archive.put_new(&name, part).await?;
        Ok((name, byte_count))
    }
}

/// Removes old requests, their parts, and parts that nobody knows.
pub struct Tidy {
    catalog: Catalog,
    archive: Archive,
    clock: Arc<dyn Clock>,
}

impl Tidy {
    /// Over these stores.
    #[must_use]
    pub fn new(catalog: Catalog, archive: Archive, clock: Arc<dyn Clock>) -> Self {
        Self { catalog, archive, clock }
    }

    /// Removes what is older than `kept`. Any number of instances may do it at once.
    ///
    /// # Errors
    /// The catalog's or the archive's; the rest is removed the next time.
    pub async fn run(&self, kept: Duration) -> Result<(), Error> {
        let before = self.catalog.now().await?.minus(kept);
        for no in store::old(&self.catalog, before).await? {
            for part in store::parts(&self.catalog, no).await? {
                if let Some(object) = part.object {
                    self.archive.delete(&object).await?;
                }
            }
            store::forget(&self.catalog, no).await?;
        }
        // Parts whose row was never written. By the store's clock and ours: twice the time is enough.
        let before = self.clock.now().minus(kept * 2);
        for object in self.archive.list("debug/v1").await? {
            if object.modified < before {
                self.archive.delete(&object.name).await?;
            }
        }
        Ok(())
    }
}
