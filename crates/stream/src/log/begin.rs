//! A new log that goes on where another one ended.

use std::path::Path;

use muster_types::{Pos, SHARDS, Shard};

use super::disk::RealDisk;
use super::options::OpenError;
use super::recover::{at, lock, segment_paths};
use super::trims::{TrimFile, Trims};

/// Whether nothing was ever written in this folder.
///
/// # Errors
/// When it cannot be read.
pub fn is_new(dir: &Path) -> Result<bool, OpenError> {
    if !dir.exists() {
        return Ok(true);
    }
    if !segment_paths(dir)?.is_empty() {
        return Ok(false);
    }
    let path = dir.join("trims");
    if !path.exists() {
        return Ok(true);
    }
    let (_, trims) = TrimFile::open(dir).map_err(at(&path))?;
    Ok(trims.is_none())
}

/// Makes a new log whose positions are all above `floor`, and whose shards are trimmed up to where they
/// are said to stand. `false`, and nothing done, when there is a log.
///
/// # Errors
/// When another process has the folder, or it cannot be written.
pub fn begin_above(dir: &Path, floor: Pos, standing: &[(Shard, Pos)]) -> Result<bool, OpenError> {
    std::fs::create_dir_all(dir).map_err(at(dir))?;
    let _lock = lock(dir)?;
    if !is_new(dir)? {
        return Ok(false);
    }
    let mut trims = Trims { trimmed: [0; SHARDS as usize], durable: floor.0 };
    for (shard, pos) in standing {
        trims.trimmed[shard.index()] = pos.0.min(floor.0);
        trims.durable = trims.durable.max(pos.0);
    }
    let (mut file, _) = TrimFile::open(dir).map_err(at(dir))?;
    file.write(&RealDisk, &trims).map_err(at(dir))?;
    Ok(true)
}
