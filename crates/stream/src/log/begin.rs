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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Log, LogOptions};
    use super::*;
    use crate::conformance::{read, record};
    use crate::{ReadError, Stream as _};

    fn options(dir: &Path) -> LogOptions {
        let mut options = LogOptions::new(dir, 64 << 20, Arc::new(|why: &str| panic!("{why}")));
        options.reserve_bytes = 0;
        options
    }

    #[tokio::test]
    async fn a_log_begins_above_where_another_stood() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("stream");
        let (shard, floor) = (Shard::new(3).unwrap(), Pos(1 << 41));
        let standing = [(shard, Pos(777)), (Shard::new(4).unwrap(), Pos(5))];
        assert!(is_new(&dir).unwrap());
        assert!(begin_above(&dir, floor, &standing).unwrap());
        // Before anything was written, and after a crash right here, it is the same.
        assert!(!is_new(&dir).unwrap());
        assert!(!begin_above(&dir, Pos(1), &[]).unwrap());
        for round in 1..=2 {
            let log = Log::open(options(&dir)).unwrap();
            let appended = log.append(vec![record(3, "a")]).await.unwrap();
            assert!(appended[0] > floor, "{} is not above {floor}", appended[0]);
            let mut reader = log.reader(vec![(shard, Pos(777))]).await.unwrap();
            read(&mut *reader, round).await;
            let below = log.reader(vec![(shard, Pos(776))]).await.err();
            assert!(matches!(below, Some(ReadError::TrimmedBelow { .. })), "{below:?}");
            log.close().await;
        }
    }
}
