//! What all tables of one query share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_archive::{Archive, manifest};
use muster_catalog::{Catalog, args};
use muster_endpoints::Snapshot;
use muster_results::{ColumnType, Types};
use muster_types::{Access, HuntNo, SqlRequest, Timestamp};
use roaring::RoaringBitmap;
use tokio::sync::OnceCell;

use crate::Error;
use crate::results::Fleet;

muster_catalog::statements! {
    /// Which hunts there are, and where their rows go.
    HUNT_TABLES = "
        SELECT no, table_name, deleted_at
        FROM hunt
        WHERE org = $1
        ORDER BY no";

    /// Columns of a table that were seen with one of the types of a mask.
    COLUMNS_OF_TYPES = "
        SELECT name_folded
        FROM result_column
        WHERE org = $1 AND table_name = $2 AND (rank & $3) <> 0";

    /// Agents whose rows nobody sees any more.
    RETIRED = "
        SELECT no
        FROM agent
        WHERE org = $1 AND deleted_at IS NOT NULL";

    /// The greatest number of an agent so far.
    LAST_AGENT = "SELECT seq FROM feed WHERE topic = 'number/agent'";
}

/// Whose rows the asker sees, without the directory: it is large, and most questions do not need it.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The agents; `None` for every one there is or was.
    pub agents: Option<Arc<RoaringBitmap>>,
    /// The greatest number that an agent has.
    pub last: u32,
}

/// One hunt, as far as table names need it.
#[derive(Clone, Debug)]
pub(crate) struct HuntTable {
    /// Where its rows go.
    pub table: String,
    pub deleted: bool,
}

/// One asker's question. What is read from the catalog is read once, when it is first needed.
pub(crate) struct Question {
    pub access: Access,
    /// By the server's clock, the same for the whole query.
    pub now: Timestamp,
    pub catalog: Catalog,
    pub archive: Archive,
    reach: OnceCell<Reach>,
    directory: OnceCell<Snapshot>,
    fleet: OnceCell<Arc<Fleet>>,
    hunts: OnceCell<Arc<BTreeMap<HuntNo, HuntTable>>>,
    tables: OnceCell<Arc<BTreeSet<String>>>,
}

impl Question {
    pub(crate) async fn open(request: &SqlRequest) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            access: request.access.clone(),
            now: request.now,
            catalog: Catalog::open_read_only(&request.catalog_url).await?,
            archive: Archive::open_with(&request.archive_url, &request.archive_access)?,
            reach: OnceCell::new(),
            directory: OnceCell::new(),
            fleet: OnceCell::new(),
            hunts: OnceCell::new(),
            tables: OnceCell::new(),
        }))
    }

    /// The agents whose rows the asker sees.
    pub(crate) async fn reach(&self) -> Result<&Reach, Error> {
        let read = || async {
            let org = i64::from(self.access.org.0);
            let rows = self.catalog.fetch_all(&RETIRED, args![org]).await?;
            let retired = rows.iter().map(|row| row.get::<u32>("no"));
            let retired: RoaringBitmap = retired.collect::<Result<_, _>>()?;
            let last = self.catalog.fetch_optional(&LAST_AGENT, args![]).await?;
            let last: u32 = last.map(|row| row.get("seq")).transpose()?.unwrap_or_default();
            let agents = match &self.access.agents {
                Some(agents) => Some(&agents.0 - &retired),
                None if retired.is_empty() => None,
                None => {
                    let mut all = RoaringBitmap::new();
                    all.insert_range(0..=last);
                    Some(all - retired)
                }
            };
            Ok(Reach { agents: agents.map(Arc::new), last })
        };
        self.reach.get_or_try_init(read).await
    }

    /// Endpoints, agents and labels of everybody, with all that is known of them.
    pub(crate) async fn directory(&self) -> Result<&Snapshot, Error> {
        let read = || async { Ok(Snapshot::read(&self.catalog).await?) };
        self.directory.get_or_try_init(read).await
    }

    /// The endpoints of the agents whose rows the asker sees.
    pub(crate) async fn fleet(&self) -> Result<&Arc<Fleet>, Error> {
        let read = || async { Ok(Arc::new(Fleet::read(self).await?)) };
        self.fleet.get_or_try_init(read).await
    }

    /// The hunts of the organisation, deleted ones too.
    pub(crate) async fn hunts(&self) -> Result<&Arc<BTreeMap<HuntNo, HuntTable>>, Error> {
        let read = || async {
            let org = i64::from(self.access.org.0);
            let mut hunts = BTreeMap::new();
            for row in self.catalog.fetch_all(&HUNT_TABLES, args![org]).await? {
                let deleted = row.get::<Option<i64>>("deleted_at")?.is_some();
                let hunt = HuntTable { table: row.get("table_name")?, deleted };
                hunts.insert(row.get("no")?, hunt);
            }
            Ok(Arc::new(hunts))
        };
        self.hunts.get_or_try_init(read).await
    }

    /// The columns of a result table that some parts have as bytes.
    pub(crate) async fn bytes_columns(&self, table: &str) -> Result<BTreeSet<String>, Error> {
        let bytes = Types::of(ColumnType::Bytes).rank();
        let values = args![i64::from(self.access.org.0), table, bytes];
        let rows = self.catalog.fetch_all(&COLUMNS_OF_TYPES, values).await?;
        rows.iter().map(|row| Ok(row.get("name_folded")?)).collect()
    }

    /// Result tables of the organisation; those of single hunts too.
    pub(crate) async fn result_tables(&self) -> Result<&Arc<BTreeSet<String>>, Error> {
        let read = || async {
            let tables = manifest::tables(&self.catalog, self.access.org).await?;
            Ok(Arc::new(tables.into_iter().collect()))
        };
        self.tables.get_or_try_init(read).await
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").finish_non_exhaustive()
    }
}
