//! What was folded becomes one object and one transaction.

use bytes::Bytes;
use muster_archive::segment_name;
use muster_catalog::Priority;
use muster_hunts::News;
use muster_results::SegmentBuilder;
use muster_types::{HuntNo, Pos, Shard, Timestamp};

use super::store::{NewSegment, Publication, ShardCut, publish};
use super::{Deps, Error, blocking};
use crate::fold::{ShardProgress, UploadDone};

/// Everything that was folded up to some positions.
#[derive(Debug)]
pub struct Cut {
    pub(super) at: Timestamp,
    pub(super) not_before: Timestamp,
    pub(super) builder: SegmentBuilder,
    pub(super) objects: Vec<String>,
    pub(super) entries: u64,
    pub(super) shards: Vec<ShardCut>,
    pub(super) progress: Vec<(HuntNo, Shard, ShardProgress)>,
    pub(super) uploads: Vec<UploadDone>,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The segment's object, when there were rows.
    pub object: Option<String>,
    /// Its length.
    pub byte_count: u64,
    /// Rows in it.
    pub rows: u64,
    /// Entries that were folded.
    pub entries: u64,
    /// Up to where, per shard.
    pub upto: Vec<(Shard, Pos)>,
    /// What to tell those who follow hunts, when their progress changed.
    pub progress: Option<Bytes>,
}

impl Cut {
    /// Rows that wait in it.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.builder.rows()
    }

    /// Writes the object, then commits.
    ///
    /// # Errors
    /// Whatever happened, the shards must be loaded anew: it may have been committed or not.
    ///
    /// # Cancel safety
    /// As on an error.
    pub async fn commit(self, deps: &Deps) -> Result<Committed, Error> {
        let rows = self.builder.rows();
        let mut segment = None;
        if rows > 0 {
            let builder = self.builder;
            let built = blocking(move || builder.finish()).await??;
            deps.step("built")?;
            let object = segment_name(self.at.day(), &deps.writer);
            let byte_count = built.bytes.len() as u64;
            deps.archive.put_new(&object, built.bytes).await?;
            segment = Some(NewSegment { object, byte_count, parts: built.parts });
        }
        deps.step("put")?;
        for base in self.shards.iter().filter_map(|cut| cut.base.as_ref()) {
            deps.archive.put_new(&base.object, base.bytes.clone()).await?;
            deps.step("put base")?;
        }
        let mut tx = deps.catalog.begin(Priority::Intake).await?;
        deps.step("begun")?;
        let all = Publication {
            writer: &deps.writer,
            at: self.at,
            segment: segment.as_ref(),
            shards: &self.shards,
            progress: &self.progress,
            uploads: &self.uploads,
            retired: &self.objects,
            not_before: self.not_before,
        };
        let seq = publish(&mut tx, &all).await?;
        deps.step("before commit")?;
        tx.commit().await?;
        deps.step("after commit")?;
        let upto: Vec<(Shard, Pos)> = self.shards.iter().map(|cut| (cut.shard, cut.to)).collect();
        for (shard, pos) in &upto {
            deps.stream.trim(*shard, *pos).await;
        }
        deps.step("trimmed")?;
        let byte_count = segment.as_ref().map_or(0, |segment| segment.byte_count);
        Ok(Committed {
            object: segment.map(|segment| segment.object),
            byte_count,
            rows,
            entries: self.entries,
            upto,
            progress: seq.map(|seq| News::progress(seq, self.progress).encode()),
        })
    }
}
