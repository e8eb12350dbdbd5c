//! A backup into empty stores.

use std::path::Path;

use crate::arrive::Arrival;
use crate::fill::{Begun, begin, fill};
use crate::folder::find;
use crate::source::Source;
use crate::{Error, Filled, Manifest, Target};

/// Positions that may have been handed out since the backup: a TiB of records.
const STREAM_MARGIN: u64 = 1 << 40;
/// Numbers of agents, hunts and so on that may have been given out since, beside a tenth of them all.
const NUMBERS: u32 = 4096;

/// Puts a backup (`None`: the newest) into empty stores; done again after it was cut off, it goes on.
///
/// What was acknowledged after the backup was taken is not in it: that is recorded as a gap of every
/// shard, the numbers of agents and hunts go on above those that may have been given out since, and a
/// new stream begins above its positions.
///
/// # Errors
/// When the stores are not empty, the backup is damaged or of another version, or something fails.
pub async fn restore(
    dir: &Path,
    id: Option<&str>,
    target: &Target,
) -> Result<(Manifest, Filled), Error> {
    let (backup, manifest) = find(dir, id)?;
    let source = format!("backup {}", manifest.id);
    let begun = begin(&target.catalog, "restore", &source).await?;
    let mut snapshot = target.catalog.snapshot().await?;
    let migration = crate::take::migration(&mut snapshot).await?;
    drop(snapshot);
    if migration != manifest.migration {
        return Err(Error::Refused(format!(
            "the backup was taken at migration {} and this program makes {migration}; restore with \
             version {}, then start this one",
            manifest.migration, manifest.program
        )));
    }
    let mut from = Source::Folder { dir: dir.to_owned(), backup, manifest: manifest.clone() };
    if begun == Begun::Whole {
        return Err(Error::Refused(format!("{source} is restored there already")));
    }
    let filled = fill(&mut from, target).await?;
    let gap = format!("restored from {source}; what was acknowledged since is not in it");
    let arrival = Arrival { stream_margin: STREAM_MARGIN, numbers: Some(NUMBERS), gap: Some(&gap) };
    arrival.complete(&target.catalog).await?;
    Ok((manifest, filled))
}
