//! How the sinks of this instance fare, for metrics.

use std::collections::HashMap;

use muster_catalog::Catalog;
use parking_lot::Mutex;

use crate::head::Head;
use crate::{Error, Sink, store};

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Its name.
    pub name: String,
    /// Rows of its tables that wait, those included that may not be for it.
    pub lag_rows: u64,
    /// Failures since it last took rows.
    pub failures: u64,
    /// Rows its destination took, ever.
    pub delivered_rows: u64,
    /// Rows its destination refused for ever.
    pub refused_rows: u64,
    /// Deliveries that failed while this process worked it.
    pub errors: u64,
}

/// The sinks whose leases this instance holds, as of the last look.
#[derive(Debug, Default)]
pub struct Gauges {
    last: Mutex<Vec<Gauge>>,
    errors: Mutex<HashMap<i64, u64>>,
}

impl Gauges {
    /// Every sink that this instance works, by name.
    #[must_use]
    pub fn read(&self) -> Vec<Gauge> {
        self.last.lock().clone()
    }

    /// A delivery failed.
    pub(crate) fn error(&self, sink: i64) {
        *self.errors.lock().entry(sink).or_default() += 1;
    }

    /// Looks at those of `sinks` that `held` says are ours.
    pub(crate) async fn look(
        &self,
        catalog: &Catalog,
        sinks: &[Sink],
        held: impl Fn(i64) -> bool,
    ) -> Result<(), Error> {
        let mut orgs: Vec<_> = sinks.iter().map(|sink| sink.org).collect();
        orgs.sort();
        orgs.dedup();
        let mut found = Vec::new();
        for org in orgs {
            let all = store::list(catalog, org).await?;
            // After the sinks, so that nothing is met that is not counted yet.
            let head = Head::read(catalog, org).await?;
            for (sink, progress) in all.into_iter().filter(|(sink, _)| held(sink.no)) {
                let waits = head.rows(&sink.filter) - progress.base_rows - progress.met_rows();
                found.push(Gauge {
                    name: sink.name,
                    lag_rows: u64::try_from(waits).unwrap_or(0),
                    failures: progress.failures.into(),
                    delivered_rows: progress.delivered_rows.unsigned_abs(),
                    refused_rows: progress.refused_rows.unsigned_abs(),
                    errors: self.errors.lock().get(&sink.no).copied().unwrap_or(0),
                });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        *self.last.lock() = found;
        Ok(())
    }
}
