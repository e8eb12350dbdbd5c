//! How far workers have committed.

use muster_catalog::{Catalog, Row, Tx, args};
use muster_results::RowClass;
use muster_types::{OrgId, Pos, Shard};

use crate::position::Positions;
use crate::{Error, Filter};

muster_catalog::statements! {
    /// The last commit, where it left each shard, and what was committed to each table: one
    /// statement, so one snapshot. Of tables there are some for each hunt.
    small HEAD = "
        SELECT 'commit' AS what, '' AS name, '' AS class, seq AS n
        FROM feed
        WHERE topic = 'commit'
        UNION ALL
        SELECT 'shard' AS what, CAST(shard AS TEXT) AS name, '' AS class, pos AS n
        FROM shard_offset
        UNION ALL
        SELECT 'table' AS what, table_name AS name, class, row_count AS n
        FROM result_count
        WHERE org = $1";

    /// The same without tables.
    pub(crate) small PLACE = "
        SELECT 'commit' AS what, '' AS name, '' AS class, seq AS n
        FROM feed
        WHERE topic = 'commit'
        UNION ALL
        SELECT 'shard' AS what, CAST(shard AS TEXT) AS name, '' AS class, pos AS n
        FROM shard_offset";

    /// The last commit.
    COMMIT = "SELECT seq FROM feed WHERE topic = 'commit'";
}

/// How far workers have committed, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last commit; 0 before the first.
    pub commit: i64,
    /// Where it left each shard.
    pub positions: Positions,
    /// What was ever committed, by table and class.
    counts: Vec<(String, RowClass, i64)>,
}

impl Head {
    pub(crate) async fn read(catalog: &Catalog, org: OrgId) -> Result<Self, Error> {
        Self::of(&catalog.fetch_all(&HEAD, args![org]).await?)
    }

    pub(crate) async fn read_in(tx: &mut Tx, org: OrgId) -> Result<Self, muster_catalog::Error> {
        let rows = tx.fetch_all(&HEAD, args![org]).await?;
        Self::of(&rows).map_err(|error| muster_catalog::Error::Other(error.to_string()))
    }

    /// Without what was counted.
    pub(crate) async fn place(catalog: &Catalog) -> Result<Self, Error> {
        Self::of(&catalog.fetch_all(&PLACE, args![]).await?)
    }

    fn of(rows: &[Row]) -> Result<Self, Error> {
        let mut head = Self::default();
        for row in rows {
            let (what, name): (String, String) = (row.get("what")?, row.get("name")?);
            let n: i64 = row.get("n")?;
            match &*what {
                "commit" => head.commit = n,
                "shard" => {
                    let shard = name.parse().ok().and_then(Shard::new);
                    let shard = shard.ok_or_else(|| Error::Damaged(format!("shard {name}")))?;
                    head.positions.set(shard, Pos(n.unsigned_abs()));
                }
                _ => {
                    let class: String = row.get("class")?;
                    let class = class.parse().map_err(Error::Damaged)?;
                    head.counts.push((name, class, n));
                }
            }
        }
        Ok(head)
    }

    /// How many rows were ever committed to the tables of a filter.
    pub(crate) fn rows(&self, filter: &Filter) -> i64 {
        let taken = |(table, class, rows): &(String, RowClass, i64)| {
            filter.takes_table(table, *class).then_some(*rows)
        };
        self.counts.iter().filter_map(taken).sum()
    }
}

/// The last commit; 0 before the first.
pub(crate) async fn last_commit(catalog: &Catalog) -> Result<i64, Error> {
    let row = catalog.fetch_optional(&COMMIT, args![]).await?;
    Ok(row.map_or(Ok(0), |row| row.get("seq"))?)
}
