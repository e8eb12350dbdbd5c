//! Merging the present state of scheduled sources.
//!
//! Flushes are merged into level 1 as everything else is, but parted by bucket. Here the steps of a
//! bucket are taken into its base, level 2, when they are worth it: rewriting the base costs as much as it is
//! long, and reading it costs more the more steps there are beside it.

use std::collections::BTreeSet;

use muster_catalog::{Catalog, args};

use crate::Error;
use crate::compaction::CompactOptions;
use crate::manifest::{Part, part};

muster_catalog::statements! {
    /// Buckets whose steps are many, or long beside their base: a fifth of it.
    RIPE_BUCKETS = "
        SELECT org, table_name, day
        FROM segment_part
        WHERE class = 'current' AND day >= 0
        GROUP BY org, table_name, day
        HAVING SUM(CASE WHEN level < 2 THEN 1 ELSE 0 END) >= $1
            OR (SUM(CASE WHEN level < 2 THEN 1 ELSE 0 END) > 0
                AND 5 * SUM(CASE WHEN level < 2 THEN byte_count ELSE 0 END)
                    >= SUM(CASE WHEN level < 2 THEN 0 ELSE byte_count END))
        ORDER BY org, table_name, day
        LIMIT $2";

    /// The parts of one bucket, its base first.
    BUCKET_PARTS = "
        SELECT
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max
        FROM segment_part
        WHERE class = 'current' AND org = $1 AND table_name = $2 AND day = $3
        ORDER BY level DESC, object, part
        LIMIT $4";
}

/// Steps beside one base at most, before they are taken into it however short they are.
const STEPS_MAX: i64 = 32;
/// Buckets looked at for one task, parts read of one.
const BUCKETS_MAX: i64 = 256;
const PARTS_MAX: i64 = 1024;

/// Bytes of flushes of one table merged at once: they are held in memory, unpacked.
pub(crate) const FRESH_BYTES: u64 = 24 << 20;

/// Bytes of one group of steps when they are unpacked, each row taken for [`ROW_BYTES`] at least: a part of
/// few bytes can have very many rows.
const UNPACKED_BYTES: u64 = 512 << 20;
const ROW_BYTES: u64 = 256;
/// Parts of one group: some rows of each are held at once.
const GROUP_PARTS: usize = 64;

/// The first parts of a group that can be merged in bounded memory. A step that is too long by itself is left
/// alone. A base costs nothing here: it is sorted, so it is read a page at a time, and no step
/// can be taken in without it.
pub(crate) fn bounded(parts: Vec<Part>) -> Vec<Part> {
    let (mut room, mut kept, mut left) = (UNPACKED_BYTES, Vec::new(), 0_u32);
    for part in parts {
        let info = &part.info;
        let unpacked = match part.level {
            0 | 1 => info.byte_count.max(info.row_count.saturating_mul(ROW_BYTES)),
            _ => 0,
        };
        if unpacked > UNPACKED_BYTES {
            left += 1;
            continue;
        }
        if unpacked > room || kept.len() >= GROUP_PARTS {
            break;
        }
        room -= unpacked;
        kept.push(part);
    }
    if left > 0 {
        let table = kept.first().map(|part| part.info.table.as_str());
        tracing::warn!(left, table, "parts of a current table are too long to be merged");
    }
    kept
}

/// Buckets to merge, all of one table, as many as one object takes; empty when none is ripe.
pub(crate) async fn ripe(
    catalog: &Catalog,
    options: &CompactOptions,
    unreadable: &BTreeSet<String>,
) -> Result<Vec<Vec<Part>>, Error> {
    let rows = catalog.fetch_all(&RIPE_BUCKETS, args![STEPS_MAX, BUCKETS_MAX]).await?;
    let mut groups: Vec<Vec<Part>> = Vec::new();
    let mut room = options.level1_bytes;
    for row in &rows {
        let (org, table): (i64, String) = (row.get("org")?, row.get("table_name")?);
        let bucket: i64 = row.get("day")?;
        let of_another =
            |first: &Part| i64::from(first.info.org.0) != org || first.info.table != table;
        if groups.first().and_then(|group| group.first()).is_some_and(of_another) {
            break;
        }
        let values = args![org, &*table, bucket, PARTS_MAX];
        let parts = catalog.fetch_all(&BUCKET_PARTS, values).await?;
        let parts: Result<Vec<Part>, Error> = parts.iter().map(part).collect();
        let mut parts = parts?;
        parts.retain(|part| !unreadable.contains(&part.object));
        let parts = bounded(parts);
        let bytes = parts.iter().map(|part| part.info.byte_count).sum();
        // A base by itself stays; a bucket over the room is taken alone.
        if parts.iter().all(|part| part.level >= 2) || (bytes > room && !groups.is_empty()) {
            continue;
        }
        room = room.saturating_sub(bytes);
        groups.push(parts);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use muster_results::{PartInfo, RowClass};
    use muster_types::{AgentNo, HuntNo, OrgId, Timestamp};

    use super::*;

    fn of(parts: impl IntoIterator<Item = (u8, u64)>) -> Vec<u64> {
        let part = |(level, row_count)| Part {
            object: String::new(),
            part: 0,
            level,
            info: PartInfo {
                org: OrgId::DEFAULT,
                table: "t".into(),
                class: RowClass::Current,
                day: 0,
                byte_offset: 0,
                byte_count: 10,
                row_count,
                received_min: Timestamp(0),
                received_max: Timestamp(0),
                agent_min: AgentNo(0),
                agent_max: AgentNo(0),
                hunt_min: HuntNo(0),
                hunt_max: HuntNo(0),
                columns: Vec::new(),
            },
        };
        let kept = bounded(parts.into_iter().map(part).collect());
        kept.iter().map(|part| part.info.row_count).collect()
    }

    #[test]
    fn a_group_is_bounded_by_what_it_takes_unpacked() {
        let million = 1_000_000;
        let steps = [(1, million), (1, million), (1, million)];
        assert_eq!(of(steps), [million, million], "2,097,152 rows");
        let base = [(2, 90 * million), (1, 9 * million), (1, million)];
        assert_eq!(of(base), [90 * million, million], "a step that is too long is left alone");
        assert_eq!(of((0..100).map(|_| (0, 1))).len(), GROUP_PARTS);
    }
}
