//! From some stores into others.

use std::time::Duration;

use muster_archive::Archive;
use muster_catalog::{Catalog, Database, Priority, args};
use muster_types::Timestamp;

use crate::arrive::Arrival;
use crate::fill::{Begun, begin, fill};
use crate::source::Source;
use crate::standing::{Copy, Standing};
use crate::take::cluster;
use crate::{Error, Filled, Target, statements as sql};

/// The new stream begins this far above the old one, whose records are all folded.
const STREAM_MARGIN: u64 = 1 << 20;
/// An instance is alive for so long after its last heartbeat, and some more.
const LEASE: Duration = Duration::from_secs(12);

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relocation {
    /// Everything was copied, now or in a run that was cut off after it.
    Done(Filled),
    /// It had been copied before, and the old stores know.
    Before,
}

/// Copies stores that nobody uses into others, and marks the old ones as left. Cut off at any point it
/// is done again with the same arguments and goes on.
///
/// The stream must be empty: it is not copied. `to` names the new stores for people who find the old.
///
/// # Errors
/// When the old stores are in use, the new ones are not empty, or something fails.
pub async fn relocate(
    catalog: &Catalog,
    archive: &Archive,
    target: &Target,
    to: &str,
) -> Result<Relocation, Error> {
    let mut snapshot = catalog.snapshot().await?;
    let source = format!("installation {}", cluster(&mut snapshot).await?);
    if Copy::read(catalog).await?.is_some_and(|copy| copy.kind == "moved") {
        return Ok(Relocation::Before);
    }
    alive(catalog).await?;
    let begun = begin(&target.catalog, "move", &source).await?;
    let mut filled = Filled::default();
    if begun == Begun::Unfinished {
        let mut from = Source::Stores { snapshot, archive: archive.clone() };
        filled = fill(&mut from, target).await?;
        let arrival = Arrival { stream_margin: STREAM_MARGIN, numbers: None, gap: None };
        arrival.complete(&target.catalog).await?;
    }
    let now = catalog.now().await?;
    let floor = Standing::read(catalog).await?.floor;
    catalog.execute(Priority::Api, &sql::COPY_SET, args!["moved", to, now, floor]).await?;
    Ok(Relocation::Done(filled))
}

/// Refuses while an instance runs on a catalog. One that was killed counts as alive for some seconds more,
/// and is waited for: it may have been an earlier run of the very move.
async fn alive(catalog: &Catalog) -> Result<(), Error> {
    if catalog.database() == Database::Sqlite {
        // The store is locked by this process, so no other one runs on it.
        return Ok(());
    }
    let deadline = catalog.now().await?.plus(LEASE);
    loop {
        let now = catalog.now().await?;
        let rows = catalog.fetch_all(&sql::ALIVE, args![now]).await?;
        let names: Result<Vec<String>, _> = rows.iter().map(|row| row.get("name")).collect();
        let names = names?;
        let ends: Result<Vec<Timestamp>, _> =
            rows.iter().map(|row| row.get("expires_at")).collect();
        if names.is_empty() {
            return Ok(());
        }
        if now > deadline || ends?.iter().any(|end| *end > deadline) {
            return Err(Error::Refused(format!(
                "stop these instances first: {}",
                names.join(", ")
            )));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
