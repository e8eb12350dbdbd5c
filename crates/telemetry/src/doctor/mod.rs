//! The doctor: looks at an installation and names what is wrong, with what to do about it.
//!
//! A finding has an id that never changes its meaning; docs/src/doctor.md has a section for each.
//! Findings come from three places: from what instances report of themselves ([`crate::report`]), from
//! the stores, and from the asker's side (its own clock, the certificate it is shown, the proxy before
//! the server), which is up to the command line.

mod archive;
mod database;
mod finding;
mod instances;

use std::sync::Arc;
use std::time::Duration;

use muster_archive::Archive;
use muster_catalog::Catalog;
use muster_types::Clock;

pub use database::STATEMENTS;
pub use finding::{Finding, id};
pub use instances::certificates;

/// Clocks further apart than this are a finding.
pub const CLOCK_APART_MAX: Duration = Duration::from_secs(5);
/// Fewer open files than this are a finding: each agent is one.
pub const OPEN_FILES_MIN: u64 = 8192;
/// Certificates that end within this are a finding.
pub const CERTIFICATE_SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// A worker further behind than this is a finding.
pub const LAG_MAX: Duration = Duration::from_secs(60);

/// Looks at the shared parts of an installation.
#[derive(Clone, Debug)]
pub struct Doctor {
    catalog: Catalog,
    archive: Archive,
    clock: Arc<dyn Clock>,
}

impl Doctor {
    /// A doctor for these stores.
    #[must_use]
    pub fn new(catalog: Catalog, archive: Archive, clock: Arc<dyn Clock>) -> Self {
        Self { catalog, archive, clock }
    }

    /// Everything that is wrong with the stores and with the instances, as far as they can be seen.
    /// What cannot be looked at is a finding too.
    pub async fn look(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match database::check(&self.catalog, &*self.clock).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::catalog(&error)),
        }
        findings.extend(archive::check(&self.archive).await);
        match instances::check(&self.catalog).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::catalog(&error)),
        }
        findings.dedup();
        findings
    }
}
