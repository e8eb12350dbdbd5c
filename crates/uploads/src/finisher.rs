//! The service that stores what is received, and tidies up.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_archive::Archive;
use muster_catalog::{Catalog, Priority, args};
use muster_cluster::Held;
use muster_types::{Clock, Timestamp, UploadNo};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::assemble::{Assembled, assemble};
use crate::{Error, Options, State, Upload, store, tidy};

/// Uploads stored in one round.
const UPLOADS_MAX: u32 = 8;
/// An upload that could not be stored so often is given up.
const ATTEMPTS_MAX: u32 = 60;
/// Tidied up once in so many rounds.
const ROUNDS_BETWEEN_TIDY: u32 = 600;

/// The service. One instance works, under the lease of [`muster_cluster::Job::Uploads`]; two at once
/// are harmless: names of objects are never reused, and the row changes once.
pub struct Finisher {
    catalog: Catalog,
    archive: Archive,
    clock: Arc<dyn Clock>,
    options: Options,
    leases: watch::Receiver<Held>,
}

impl Finisher {
    /// A finisher that works while `leases` of [`muster_cluster::Job::Uploads`] holds something.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        archive: Archive,
        clock: Arc<dyn Clock>,
        options: Options,
        leases: watch::Receiver<Held>,
    ) -> Self {
        Self { catalog, archive, clock, options, leases }
    }

    /// Works until `shutdown`; what is under way then is dropped, and begun again elsewhere.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async {
            let mut attempts = BTreeMap::new();
            let mut rounds = 0_u32;
            loop {
                tokio::time::sleep(self.options.every).await;
                if !self.leases.borrow().is_valid() {
                    continue;
                }
                if let Err(error) = self.round(&mut attempts).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "uploads could not be looked at");
                }
                if rounds.is_multiple_of(ROUNDS_BETWEEN_TIDY)
                    && let Err(error) = self.tidy_now().await
                {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "tidying uploads ended early");
                }
                rounds = rounds.wrapping_add(1);
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }

    /// Stores what is received. `attempts` counts failures of each upload.
    ///
    /// # Errors
    /// When the catalog fails.
    ///
    /// # Cancel safety
    /// Safe: what is not stored is received still.
    pub async fn round(&self, attempts: &mut BTreeMap<UploadNo, u32>) -> Result<u32, Error> {
        let all = Timestamp(i64::MAX);
        let received = store::of_state(&self.catalog, State::Received, all, UPLOADS_MAX).await?;
        attempts.retain(|no, _| received.iter().any(|upload| upload.no == *no));
        let mut stored = 0;
        for upload in received {
            match self.store(&upload).await {
                Ok(()) => stored += 1,
                Err(error) => {
                    let count = attempts.entry(upload.no).or_default();
                    *count += 1;
                    let is_last = *count >= ATTEMPTS_MAX || matches!(error, Error::Blocks(_));
                    tracing::warn!(upload = %upload.no, %error, is_last, "upload could not be stored");
                    if is_last {
                        self.fail(&upload, &error.to_string()).await?;
                    }
                }
            }
        }
        Ok(stored)
    }

    /// Drops what is of no use any more at this time of the catalog; see [`crate`].
    ///
    /// # Errors
    /// When the catalog or the archive fails.
    pub async fn tidy(&self, now: Timestamp) -> Result<(), Error> {
        tidy::round(&self.catalog, &self.archive, &self.options, now).await
    }

    async fn tidy_now(&self) -> Result<(), Error> {
        self.tidy(self.catalog.now().await?).await
    }

    async fn store(&self, upload: &Upload) -> Result<(), Error> {
        let Self { catalog, archive, options, .. } = self;
        let now = self.clock.now();
        let done = assemble(catalog, archive, options, upload, now).await?;
        let Assembled { object, piece_count, byte_count, sha256, format } = done;
        let values = args![
            upload.no,
            "",
            self.clock.now(),
            byte_count,
            sha256,
            format,
            &*object,
            piece_count
        ];
        // Not one row: somebody else stored it, and our pieces are orphans, deleted by and by.
        catalog.execute(Priority::Intake, &store::STORED, values).await?;
        tracing::info!(upload = %upload.no, byte_count, "upload stored");
        Ok(())
    }

    async fn fail(&self, upload: &Upload, why: &str) -> Result<(), Error> {
        let values = args![upload.no, why, self.clock.now(), State::Received.as_str()];
        self.catalog.execute(Priority::Intake, &store::FAILED, values).await?;
        Ok(())
    }
}
