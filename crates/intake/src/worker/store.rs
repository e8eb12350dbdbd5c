//! What the worker reads from and writes to the catalog.

use bytes::Bytes;
use muster_archive::{Archive, manifest};
use muster_catalog::{Catalog, Priority, Tx, args};
use muster_hunts::ProgressError;
use muster_results::PartInfo;
use muster_types::{Epoch, HuntNo, Pos, Shard, Timestamp};

use super::Error;
use crate::fold::{ShardProgress, ShardState, UploadDone};

muster_catalog::statements! {
    /// Takes a shard over: from now on only this epoch may move it. Touches no row of a later epoch.
    TAKE_SHARD = "
        INSERT INTO shard_offset (shard, pos, epoch, base_pos)
        VALUES ($1, 0, $2, 0)
        ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch
        WHERE shard_offset.epoch <= excluded.epoch
        RETURNING pos, base_object, base_pos";

    /// Where a shard stands.
    pub(crate) SHARD_OFFSET = "
        SELECT pos, epoch
        FROM shard_offset
        WHERE shard = $1";

    /// Changes of a shard's state above its base.
    DELTAS = "
        SELECT delta
        FROM shard_delta
        WHERE shard = $1 AND to_pos > $2 AND to_pos <= $3
        ORDER BY to_pos";

    /// The compare-and-set that makes rows appear exactly once.
    ADVANCE = "
        UPDATE shard_offset SET pos = $4
        WHERE shard = $1 AND pos = $2 AND epoch = $3";

    /// The same for [`TOGETHER`] shards, in their order.
    ADVANCES = "
        WITH given (shard, from_pos, epoch, to_pos) AS (VALUES
            (CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS BIGINT)),
            ($5, $6, $7, $8), ($9, $10, $11, $12), ($13, $14, $15, $16),
            ($17, $18, $19, $20), ($21, $22, $23, $24), ($25, $26, $27, $28), ($29, $30, $31, $32))
        UPDATE shard_offset SET pos = given.to_pos
        FROM given
        WHERE shard_offset.shard = given.shard AND shard_offset.pos = given.from_pos
            AND shard_offset.epoch = given.epoch";

    /// A shard's state as one object.
    SET_BASE = "
        UPDATE shard_offset SET base_object = $2, base_pos = $3
        WHERE shard = $1";

    /// Deltas that a base holds.
    DROP_DELTAS = "
        DELETE FROM shard_delta
        WHERE shard = $1 AND to_pos <= $2";

    /// What changed in a shard's state.
    ADD_DELTA = "
        INSERT INTO shard_delta (shard, to_pos, delta)
        VALUES ($1, $2, $3)";

    /// What changed in the states of [`TOGETHER`] shards.
    ADD_DELTAS = "
        INSERT INTO shard_delta (shard, to_pos, delta)
        VALUES ($1, $2, $3), ($4, $5, $6), ($7, $8, $9), ($10, $11, $12),
            ($13, $14, $15), ($16, $17, $18), ($19, $20, $21), ($22, $23, $24)";

    /// What became of a hunt in all shards.
    PROGRESS = "
        SELECT shard, progress
        FROM hunt_shard
        WHERE hunt_no = $1";

    /// What became of a hunt in one shard.
    SET_PROGRESS = "
        INSERT INTO hunt_shard (hunt_no, shard, progress, row_count, byte_count, change)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (hunt_no, shard) DO UPDATE SET
            progress = excluded.progress,
            row_count = excluded.row_count,
            byte_count = excluded.byte_count,
            change = excluded.change";

    /// The same for [`TOGETHER`] pairs of a hunt and a shard, all different.
    SET_PROGRESSES = "
        INSERT INTO hunt_shard (hunt_no, shard, progress, row_count, byte_count, change)
        VALUES ($1, $2, $3, $4, $5, $41), ($6, $7, $8, $9, $10, $41),
            ($11, $12, $13, $14, $15, $41), ($16, $17, $18, $19, $20, $41),
            ($21, $22, $23, $24, $25, $41), ($26, $27, $28, $29, $30, $41),
            ($31, $32, $33, $34, $35, $41), ($36, $37, $38, $39, $40, $41)
        ON CONFLICT (hunt_no, shard) DO UPDATE SET
            progress = excluded.progress,
            row_count = excluded.row_count,
            byte_count = excluded.byte_count,
            change = excluded.change";
}

/// Rows of one statement: with one each, a commit of all shards would wait for the database two hundred times,
/// and wake a thread for it each time.
const TOGETHER: usize = 8;

/// A shard that was taken over.
#[derive(Debug)]
pub(super) struct Taken {
    pub shard: Shard,
    pub pos: Pos,
    pub base: Option<(String, Pos)>,
}

/// Raises the epoch of these shards. Shards of a later epoch are not ours and left out.
pub(super) async fn take(
    catalog: &Catalog,
    shards: impl IntoIterator<Item = (Shard, Epoch)>,
) -> Result<Vec<Taken>, Error> {
    let mut taken = Vec::new();
    let mut tx = catalog.begin(Priority::Intake).await?;
    for (shard, epoch) in shards {
        let Some(row) = tx.fetch_optional(&TAKE_SHARD, args![shard, epoch]).await? else {
            tracing::warn!(%shard, %epoch, "shard was taken over by a later holder");
            continue;
        };
        let base_pos = row.get("base_pos")?;
        let base = row.get::<Option<String>>("base_object")?.map(|name| (name, base_pos));
        taken.push(Taken { shard, pos: row.get("pos")?, base });
    }
    tx.commit().await?;
    Ok(taken)
}

/// The state of a shard that was taken over: base and deltas. Also tells how many bytes of deltas there are.
pub(super) async fn load(
    catalog: &Catalog,
    archive: &Archive,
    taken: &Taken,
) -> Result<(ShardState, usize), Error> {
    let mut state = ShardState::new(taken.shard);
    let mut from = Pos(0);
    if let Some((object, pos)) = &taken.base {
        state.read(&archive.get(object).await?)?;
        from = *pos;
    }
    let mut delta_bytes = 0;
    for row in catalog.fetch_all(&DELTAS, args![taken.shard, from, taken.pos]).await? {
        let delta: Vec<u8> = row.get("delta")?;
        delta_bytes += delta.len();
        state.read(&delta)?;
    }
    Ok((state, delta_bytes))
}

/// Progress of a hunt in all shards.
pub(super) async fn progress(
    catalog: &Catalog,
    hunt: HuntNo,
) -> Result<Vec<(Shard, ShardProgress)>, Error> {
    let rows = catalog.fetch_all(&PROGRESS, args![hunt]).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let progress =
            ShardProgress::decode(&row.get::<Vec<u8>>("progress")?).map_err(|error| {
                let why = format!("progress of hunt {hunt}: {error}");
                match error {
                    ProgressError::Version(_) => Error::Newer(why),
                    ProgressError::Malformed(_) => Error::State(why),
                }
            })?;
        all.push((row.get("shard")?, progress));
    }
    Ok(all)
}

/// One shard's share of a commit.
#[derive(Debug)]
pub(super) struct ShardCut {
    pub shard: Shard,
    pub epoch: Epoch,
    pub from: Pos,
    pub to: Pos,
    pub delta: Bytes,
    pub base: Option<NewBase>,
}

/// A new base, which replaces the delta of the same commit and all before.
#[derive(Debug)]
pub(super) struct NewBase {
    pub object: String,
    pub bytes: Bytes,
    /// The base it replaces.
    pub old: Option<String>,
}

/// The object of a commit and what the manifest keeps of it.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub object: String,
    pub byte_count: u64,
    pub parts: Vec<PartInfo>,
}

/// Everything the one transaction writes.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    pub writer: &'a str,
    pub at: Timestamp,
    pub segment: Option<&'a NewSegment>,
    pub shards: &'a [ShardCut],
    pub progress: &'a [(HuntNo, Shard, ShardProgress)],
    /// Uploads whose blocks are all in now.
    pub uploads: &'a [UploadDone],
    /// Payload objects that are of no use any more,
    pub retired: &'a [String],
    /// and from when on they may be deleted.
    pub not_before: Timestamp,
}

/// Fills the one transaction; committing it is left to the caller. Nothing has happened when this fails.
/// Returns the number of the progress in its feed, when there is progress.
pub(super) async fn publish(tx: &mut Tx, all: &Publication<'_>) -> Result<Option<i64>, Error> {
    let Publication { writer, at, segment, shards, progress, uploads, retired, not_before } = *all;
    debug_assert!(shards.is_sorted_by_key(|cut| cut.shard), "one order of locks for everybody");
    let advance = |cut: &ShardCut| args![cut.shard, cut.from, cut.epoch, cut.to];
    let (together, single) = shards.as_chunks::<TOGETHER>();
    for cuts in together {
        let moved = tx.execute(&ADVANCES, cuts.iter().flat_map(advance).collect()).await?;
        if moved != TOGETHER as u64 {
            return Err(Error::Fenced { first: cuts[0].shard, last: cuts[TOGETHER - 1].shard });
        }
    }
    for cut in single {
        if tx.execute(&ADVANCE, advance(cut)).await? != 1 {
            return Err(Error::Fenced { first: cut.shard, last: cut.shard });
        }
    }
    for cut in shards {
        let Some(base) = &cut.base else { continue };
        tx.execute(&SET_BASE, args![cut.shard, &*base.object, cut.to]).await?;
        tx.execute(&DROP_DELTAS, args![cut.shard, cut.to]).await?;
    }
    let deltas: Vec<&ShardCut> = shards.iter().filter(|cut| cut.base.is_none()).collect();
    let (together, single) = deltas.as_chunks::<TOGETHER>();
    let delta = |cut: &&ShardCut| args![cut.shard, cut.to, &cut.delta[..]];
    for cuts in together {
        tx.execute(&ADD_DELTAS, cuts.iter().flat_map(delta).collect()).await?;
    }
    for cut in single {
        tx.execute(&ADD_DELTA, delta(cut)).await?;
    }
    if let Some(new) = segment {
        manifest::add_segment(tx, &new.object, 0, writer, at, new.byte_count, &new.parts).await?;
    }
    let old_bases = shards.iter().filter_map(|cut| cut.base.as_ref()?.old.clone());
    let gone: Vec<String> = old_bases.chain(retired.iter().cloned()).collect();
    if !gone.is_empty() {
        manifest::retire(tx, &gone, not_before, "folded").await?;
    }
    for done in uploads {
        muster_uploads::received(tx, done.upload, done.agent, done.byte_count).await?;
    }
    if progress.is_empty() {
        return Ok(None);
    }
    let change = tx.bump("progress").await?;
    let row = |(hunt, shard, progress): &(HuntNo, Shard, ShardProgress)| {
        args![*hunt, *shard, progress.encode(), progress.row_count, progress.byte_count]
    };
    let (together, single) = progress.as_chunks::<TOGETHER>();
    for some in together {
        let args = some.iter().flat_map(row).chain(args![change]).collect();
        tx.execute(&SET_PROGRESSES, args).await?;
    }
    for one in single {
        tx.execute(&SET_PROGRESS, row(one).into_iter().chain(args![change]).collect()).await?;
    }
    Ok(Some(change))
}
