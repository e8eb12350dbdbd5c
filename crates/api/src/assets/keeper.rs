//! Publishing them, and removing those that no running version has.

use std::sync::Arc;
use std::time::Duration;

use muster_archive::{Archive, Error};
use muster_catalog::{Catalog, Priority, args};
use tokio_util::sync::CancellationToken;

use super::{Assets, object};

/// An instance says this often that it has its files.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// After a failure it is tried again so soon.
const AGAIN: Duration = Duration::from_secs(10);
/// Files that nobody had for this long are removed: some page may still be open in a browser.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Files removed in one round.
const REMOVED_MAX: i64 = 64;

muster_catalog::statements! {
    /// A file that this instance has.
    WANT = "
        INSERT INTO asset (name, wanted_at)
        VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET wanted_at = excluded.wanted_at";

    /// Files that nobody had for long.
    UNWANTED = "
        SELECT name FROM asset
        WHERE wanted_at < $1
        ORDER BY wanted_at
        LIMIT $2";

    /// Takes one out, unless somebody has it again.
    REMOVE = "DELETE FROM asset WHERE name = $1 AND wanted_at < $2";
}

/// Keeps this version's files in the archive for as long as it runs.
#[derive(Debug)]
pub struct Keeper {
    catalog: Catalog,
    archive: Archive,
    own: Arc<Assets>,
}

impl Keeper {
    /// A keeper of `own`.
    #[must_use]
    pub fn new(catalog: Catalog, archive: Archive, own: Arc<Assets>) -> Self {
        Self { catalog, archive, own }
    }

    /// Publishes at once and once an hour, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async {
            loop {
                let pause = match self.round(KEPT_FOR).await {
                    Ok(_) => EVERY,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "files of the page are not published yet");
                        AGAIN
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(work).await;
    }

    /// One round: publishes what is not there, and removes what nobody has had for `kept_for`; how
    /// many. The row is first, so a file that is being removed is found missing in the next round.
    ///
    /// # Errors
    /// When the catalog or the archive fails.
    pub async fn round(&self, kept_for: Duration) -> Result<usize, Error> {
        let now = self.catalog.now().await?;
        for name in self.own.names() {
            self.catalog.execute(Priority::Presence, &WANT, args![name, now]).await?;
            let bytes = self.own.get(name).cloned().unwrap_or_default();
            if self.archive.size(&object(name)).await? == Some(bytes.len() as u64) {
                continue;
            }
            match self.archive.put_new(&object(name), bytes).await {
                Ok(()) | Err(Error::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if muster_archive::sweep::is_paused(&self.catalog, now).await? {
            return Ok(0);
        }
        let before = now.minus(kept_for);
        let mut removed = 0;
        for row in self.catalog.fetch_all(&UNWANTED, args![before, REMOVED_MAX]).await? {
            let name: String = row.get("name")?;
            let values = args![name.as_str(), before];
            if self.catalog.execute(Priority::Presence, &REMOVE, values).await? == 1 {
                self.archive.delete(&object(&name)).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
