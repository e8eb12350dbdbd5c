//! Shards whose records are gone, moved on by a person, visibly.

use muster_catalog::{Catalog, Priority, args};
use muster_types::{Pos, Shard, Timestamp};

use crate::standing::Standing;
use crate::{Error, statements as sql};

/// A lost stream may have handed out so many positions that nothing was folded of.
const MARGIN: u64 = 1 << 40;

/// Where a shard stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Which.
    pub shard: Shard,
    /// The last position that was folded.
    pub pos: Pos,
    /// The term of its holder.
    pub epoch: u64,
}

/// Positions of a shard that will never be folded: above `from`, up to `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Of which shard.
    pub shard: Shard,
    /// The last position that was folded before it.
    pub from: Pos,
    /// The last position that is lost.
    pub to: Pos,
    /// When it was recorded.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
    /// Why.
    pub reason: String,
}

/// All shards that anything was folded of.
///
/// # Errors
/// When the catalog fails.
pub async fn list(catalog: &Catalog) -> Result<Vec<ShardInfo>, Error> {
    let mut shards = Vec::new();
    for row in catalog.fetch_all(&sql::SHARDS, args![]).await? {
        shards.push(ShardInfo {
            shard: row.get("shard")?,
            pos: row.get("pos")?,
            epoch: row.get("epoch")?,
        });
    }
    Ok(shards)
}

/// All gaps, the oldest first.
///
/// # Errors
/// When the catalog fails.
pub async fn gaps(catalog: &Catalog) -> Result<Vec<Gap>, Error> {
    let mut gaps = Vec::new();
    for row in catalog.fetch_all(&sql::GAPS, args![]).await? {
        gaps.push(Gap {
            shard: row.get("shard")?,
            from: row.get("from_pos")?,
            to: row.get("to_pos")?,
            made_at: row.get("made_at")?,
            made_by: row.get("made_by")?,
            reason: row.get("reason")?,
        });
    }
    Ok(gaps)
}

/// Moves a shard on to a position, whose record is the last that counts as lost. The server's log says
/// which is the oldest that is kept: the one before that. Whoever holds the shard takes it anew.
///
/// # Errors
/// When the shard stands there or further, or moved meanwhile.
pub async fn skip(
    catalog: &Catalog,
    shard: Shard,
    to: Pos,
    by: &str,
    reason: &str,
) -> Result<Gap, Error> {
    let here = list(catalog).await?.into_iter().find(|info| info.shard == shard);
    let from = here.map_or(Pos(0), |info| info.pos);
    if to <= from {
        return Err(Error::Refused(format!("shard {shard} stands at {from} already")));
    }
    let mut tx = catalog.begin(Priority::Api).await?;
    let now = tx.now().await?;
    if tx.execute(&sql::SKIP, args![shard, from, to]).await? != 1 {
        return Err(Error::Refused(format!("shard {shard} moved by itself meanwhile; look again")));
    }
    tx.execute(&sql::ADD_GAP, args![shard, from, to, now, by, reason]).await?;
    tx.execute(&sql::LET_GO, args!["shards", shard]).await?;
    tx.commit().await?;
    let (by, reason) = (by.to_owned(), reason.to_owned());
    Ok(Gap { shard, from, to, made_at: now, made_by: by, reason })
}

/// Gives up a stream whose data is gone for good: a new one may begin, above all positions that the old
/// one can have handed out. How many shards have a gap now.
///
/// # Errors
/// When the catalog fails.
pub async fn give_up_stream(catalog: &Catalog, by: &str, reason: &str) -> Result<usize, Error> {
    let standing = Standing::read(catalog).await?;
    standing.check()?;
    let floor = Pos(standing.folded().max(standing.floor).0 + MARGIN);
    let mut tx = catalog.begin(Priority::Api).await?;
    let now = tx.now().await?;
    for (shard, pos) in &standing.shards {
        tx.execute(&sql::ADD_GAP, args![*shard, *pos, floor, now, by, reason]).await?;
    }
    tx.execute(&sql::COPY_SET, args!["lost", reason, now, floor]).await?;
    tx.commit().await?;
    Ok(standing.shards.len())
}
