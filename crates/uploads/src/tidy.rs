//! What is of no use any more: uploads that never came, old ones, those of deleted agents, blocks of
//! stored ones, and pieces that nobody names. Old by the catalog's clock, pieces by the archive's as well: this
//! machine's may be wrong.

use std::time::Duration;

use muster_archive::manifest::{self, Part, PartFilter, parts_of};
use muster_archive::{Archive, day_name};
use muster_catalog::{Catalog, Priority, args};
use muster_types::{OrgId, Timestamp, UploadNo};

use crate::assemble::SKEW;
use crate::{BLOCKS_TABLE, Error, Options, State, Upload, store};

/// Uploads looked at in one step.
const UPLOADS_MAX: u32 = 256;
/// Parts dropped in one transaction.
const PARTS_MAX: usize = 256;
/// Days of pieces looked back for orphans, and how old those are: no finisher works that long.
const DAYS_BACK: i64 = 3;
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// One round; what is left over waits for the next.
pub(crate) async fn round(
    catalog: &Catalog,
    archive: &Archive,
    options: &Options,
    now: Timestamp,
) -> Result<(), Error> {
    give_up(catalog, options, now).await?;
    for org in store::orgs(catalog).await? {
        drop_blocks(catalog, options, org, now).await?;
    }
    // A hold is a promise about what a hunt brought, files too; which uploads are whose is not known here.
    if catalog.fetch_optional(&store::HELD, args![now]).await?.is_some() {
        return orphans(catalog, archive, now).await;
    }
    let old = now.minus(options.keep_for);
    for state in [State::Stored, State::Failed] {
        for upload in store::of_state(catalog, state, old, UPLOADS_MAX).await? {
            remove(catalog, options, &upload, now).await?;
        }
    }
    for upload in store::of_deleted(catalog, UPLOADS_MAX).await? {
        remove(catalog, options, &upload, now).await?;
    }
    orphans(catalog, archive, now).await
}

async fn give_up(catalog: &Catalog, options: &Options, now: Timestamp) -> Result<(), Error> {
    let (idle, most) = (options.open_for, options.open_at_most);
    let since = (now.minus(idle), now.minus(most));
    for upload in store::idle(catalog, since.0, since.1, UPLOADS_MAX).await? {
        let (blocks, hours) = (upload.block_count, |time: Duration| time.as_secs() / 3600);
        let why = match upload.begun_at < since.1 {
            true => format!("not all of its {blocks} blocks came within {} h", hours(most)),
            false => {
                format!("not all of its {blocks} blocks came, and none for {} h", hours(idle))
            }
        };
        let values = args![upload.no, why, now, State::Open.as_str()];
        catalog.execute(Priority::Intake, &store::FAILED, values).await?;
    }
    Ok(())
}

/// Forgets an upload; its objects go after the grace, so that whoever reads them can finish.
async fn remove(
    catalog: &Catalog,
    options: &Options,
    upload: &Upload,
    now: Timestamp,
) -> Result<(), Error> {
    let mut tx = catalog.begin(Priority::Intake).await?;
    if tx.execute(&store::REMOVE, args![upload.no, upload.state.as_str()]).await? == 1 {
        let pieces: Vec<String> = upload.pieces().collect();
        manifest::retire(&mut tx, &pieces, now.plus(options.retire_grace), "upload").await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Drops parts with blocks of which all were received before any upload began that is not stored.
async fn drop_blocks(
    catalog: &Catalog,
    options: &Options,
    org: OrgId,
    now: Timestamp,
) -> Result<(), Error> {
    let mut needed_from = now;
    for state in [State::Open, State::Received] {
        let oldest = store::of_state(catalog, state, Timestamp(i64::MAX), 1).await?;
        needed_from = oldest.iter().map(|upload| upload.begun_at).fold(needed_from, Ord::min);
    }
    let needed_from = needed_from.minus(SKEW);
    let filter =
        PartFilter { received: Timestamp(i64::MIN)..=needed_from, ..PartFilter::default() };
    let parts = parts_of(catalog, org, BLOCKS_TABLE, &filter).await?;
    let unneeded: Vec<Part> =
        parts.into_iter().filter(|part| part.info.received_max < needed_from).collect();
    for parts in unneeded.chunks(PARTS_MAX) {
        let mut tx = catalog.begin(Priority::Intake).await?;
        let not_before = now.plus(options.retire_grace);
        match manifest::replace(&mut tx, parts, None, not_before, "uploads").await {
            Ok(_) => tx.commit().await?,
            // Compaction was faster: they are looked for again.
            Err(muster_archive::Error::Stale) => {
                tx.rollback().await;
                return Ok(());
            }
            Err(error) => {
                tx.rollback().await;
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Deletes pieces of yesterday and before that no upload names: their finisher was cut short.
async fn orphans(catalog: &Catalog, archive: &Archive, now: Timestamp) -> Result<(), Error> {
    if muster_archive::sweep::is_paused(catalog, now).await? {
        return Ok(());
    }
    let now = now.min(archive.now().await?);
    for day in now.day() - 1 - DAYS_BACK..now.day() {
        let mut known: (UploadNo, Option<String>) = (UploadNo(0), None);
        let mut pieces = archive.list(&format!("upload/v1/{}", day_name(day))).await?;
        pieces.retain(|piece| piece.modified < now.minus(ORPHAN_AGE));
        pieces.sort_by(|a, b| a.name.cmp(&b.name));
        for piece in pieces {
            let file = piece.name.rsplit('/').next().unwrap_or_default();
            let Some(no) = file.split('-').next().and_then(|no| no.parse().ok()) else { continue };
            if known.0 != no {
                known = (no, store::by_no(catalog, no).await?.and_then(|upload| upload.object));
            }
            let object = piece.name.rsplit_once('-').map(|(object, _)| object);
            if object != known.1.as_deref() {
                archive.delete(&piece.name).await?;
                tracing::info!(object = piece.name, "deleted a piece that no upload names");
            }
        }
    }
    Ok(())
}
