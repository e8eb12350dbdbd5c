//! The service that writes this instance's report.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_catalog::{Catalog, Error};
use muster_types::{Clock, Incarnation, InstanceId};
use tokio_util::sync::CancellationToken;

use super::{Facts, store};

/// Between reports.
const EVERY: Duration = Duration::from_secs(60);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Gathers the facts, all but the clock's.
pub type Gather = Box<dyn Fn() -> BoxFuture<'static, Facts> + Send + Sync>;

/// Writes reports; to be run on every instance.
pub struct Service {
    catalog: Catalog,
    clock: Arc<dyn Clock>,
    me: (InstanceId, Incarnation),
    gather: Gather,
}

impl Service {
    /// A service that reports for this instance.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        clock: Arc<dyn Clock>,
        me: (InstanceId, Incarnation),
        gather: Gather,
    ) -> Self {
        Self { catalog, clock, me, gather }
    }

    /// Reports at once and then every minute, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async {
            loop {
                let pause = match self.report().await {
                    Ok(()) => EVERY,
                    Err(error) => {
                        tracing::debug!(%error, "the report of this instance was not written");
                        AGAIN
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(Box::pin(work)).await;
    }

    async fn report(&self) -> Result<(), Error> {
        let mut facts = (self.gather)().await;
        facts.clock_ahead_ms = clock_ahead_ms(&self.catalog, &*self.clock).await?;
        store::save(&self.catalog, self.me, &facts).await
    }
}

/// This clock minus the database's, in milliseconds, taken in the middle of the call.
///
/// # Errors
/// The catalog's.
pub(crate) async fn clock_ahead_ms(catalog: &Catalog, clock: &dyn Clock) -> Result<i64, Error> {
    let before = clock.now();
    let database = catalog.now().await?;
    let after = clock.now();
    let middle = before.0.midpoint(after.0);
    Ok((middle - database.0) / 1000)
}
