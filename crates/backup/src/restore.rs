//! A backup into empty stores.

use std::path::Path;

use muster_catalog::{MigrationKind, Program};
use muster_types::Timestamp;

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
    same_layout(&manifest)?;
    let source = format!("backup {}", manifest.id);
    let begun = begin(&target.catalog, "restore", &source).await?;
    let mut from = Source::Folder { dir: dir.to_owned(), backup, manifest: manifest.clone() };
    if begun == Begun::Whole {
        return Err(Error::Refused(format!("{source} is restored there already")));
    }
    let filled = fill(&mut from, target).await?;
    let gap = format!("restored from {source}; what was acknowledged since is not in it");
    let numbers = (NUMBERS, Timestamp(manifest.taken_at));
    let arrival = Arrival { stream_margin: STREAM_MARGIN, numbers: Some(numbers), gap: Some(&gap) };
    arrival.complete(&target.catalog).await?;
    Ok((manifest, filled))
}

/// Refuses a backup of another layout, before anything is touched: a migration may have changed rows too.
fn same_layout(manifest: &Manifest) -> Result<(), Error> {
    let known = Program::default().migrations;
    let at = known.iter().position(|migration| migration.name == manifest.migration);
    let later = |at: usize| known[at + 1..].iter().find(|m| m.kind == MigrationKind::Expand);
    let what = match at {
        Some(at) => match later(at) {
            None => return Ok(()),
            Some(later) => format!("this program makes {} besides", later.name),
        },
        None => "this program does not know it".to_owned(),
    };
    Err(Error::Refused(format!(
        "the backup was taken at migration {}, and {what}; restore it with version {}, then start this \
         one",
        manifest.migration, manifest.program
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{FORMAT, Objects, VERSION};

    #[test]
    fn only_backups_of_this_layout_are_restored() {
        let known = Program::default().migrations;
        let taken_at = |migration: &str| Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: String::new(),
            taken_at: 0,
            program: "0.1.0".to_owned(),
            migration: migration.to_owned(),
            database: "sqlite".to_owned(),
            cluster: String::new(),
            tables: Vec::new(),
            objects: Objects::default(),
            shards: Vec::new(),
            secret_key: false,
        };
        same_layout(&taken_at(known[known.len() - 1].name)).unwrap();
        for other in ["0001_spine", "9999_later"] {
            let told = same_layout(&taken_at(other)).unwrap_err().to_string();
            assert!(told.contains("restore it with version 0.1.0"), "{told}");
        }
    }
}
