//! Deleting nothing for as long as somebody copies.

use std::future::Future;
use std::time::Duration;

use muster_catalog::{Catalog, Priority, args};
use uuid::Uuid;

use crate::Error;
use crate::statements as sql;

/// A pause ends by itself this long after it was last renewed,
const LASTS: Duration = Duration::from_secs(10 * 60);
/// which happens this often.
const RENEWED: Duration = Duration::from_secs(60);

/// While it is there, no object of the archive is deleted; retiring and compacting go on. It ends by
/// itself ten minutes after the process that made it.
#[derive(Debug)]
pub struct Pause {
    catalog: Catalog,
    id: Uuid,
    held_by: String,
}

impl Pause {
    /// Begins one. What the catalog says after this stays readable until it ends.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn begin(catalog: Catalog, held_by: &str) -> Result<Self, Error> {
        let pause = Self { catalog, id: Uuid::now_v7(), held_by: held_by.to_owned() };
        pause.renew().await?;
        Ok(pause)
    }

    /// Does some work and renews the pause meanwhile.
    ///
    /// # Errors
    /// When the pause could not be renewed for so long that it may have ended; the work is dropped.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let renewing = async {
            let mut failed = 0;
            loop {
                tokio::time::sleep(RENEWED).await;
                match self.renew().await {
                    Ok(()) => failed = 0,
                    Err(error) if failed < 5 => {
                        failed += 1;
                        tracing::warn!(%error, failed, "the pause of deletions was not renewed");
                    }
                    Err(error) => return error,
                }
            }
        };
        tokio::select! {
            done = work => Ok(done),
            error = renewing => Err(error),
        }
    }

    /// Ends it. Without this it ends by itself.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn end(self) -> Result<(), Error> {
        self.catalog.execute(Priority::Api, &sql::RELEASE_HOLD, args![self.id]).await?;
        Ok(())
    }

    async fn renew(&self) -> Result<(), Error> {
        let until = self.catalog.now().await?.plus(LASTS);
        let values = args![self.id, &*self.held_by, until];
        self.catalog.execute(Priority::Api, &sql::HOLD_ALL, values).await?;
        Ok(())
    }
}
