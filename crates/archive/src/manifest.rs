//! Which segments exist, what is in them, and which columns result tables have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use muster_catalog::{Catalog, Priority, Row, Tx, args};
use muster_results::{ColumnDecl, PartInfo, RowClass, Types, fold, sql_name};
use muster_types::{AgentNo, HuntNo, OrgId, PartRef, Timestamp};
use uuid::Uuid;

use crate::Error;
use crate::statements as sql;

/// A table gets no new columns in SQL once it has this many; their values stay in the segments.
const COLUMNS_MAX: i64 = 1024;

/// One Parquet part that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its object.
    pub object: String,
    /// Its index there.
    pub part: u32,
    /// 0 for a flush, 1 and 2 for compacted ones.
    pub level: u8,
    /// What is in it; `columns` are left empty, the file knows them.
    pub info: PartInfo,
}

impl Part {
    /// Where to read it.
    #[must_use]
    pub fn part_ref(&self) -> PartRef {
        PartRef {
            object: self.object.clone(),
            part: self.part,
            byte_offset: self.info.byte_offset,
            byte_count: self.info.byte_count,
            row_count: self.info.row_count,
        }
    }
}

/// Which rows a reader wants; parts that cannot have any are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFilter {
    /// When they were received.
    pub received: RangeInclusive<Timestamp>,
    /// Of which agents.
    pub agent: RangeInclusive<AgentNo>,
    /// Of which hunts; 0 for none.
    pub hunt: RangeInclusive<HuntNo>,
}

impl Default for PartFilter {
    fn default() -> Self {
        Self {
            received: Timestamp(i64::MIN)..=Timestamp(i64::MAX),
            agent: AgentNo(0)..=AgentNo(u32::MAX),
            hunt: HuntNo(0)..=HuntNo(u64::MAX),
        }
    }
}

/// A new segment, as it is told to the manifest.
#[derive(Clone, Copy, Debug)]
pub struct NewSegment<'a> {
    /// Its object, which is durable.
    pub object: &'a str,
    /// 0 for a flush.
    pub level: u8,
    /// Who wrote it.
    pub writer: &'a str,
    /// When.
    pub at: Timestamp,
    /// Its length.
    pub byte_count: u64,
    /// Its parts.
    pub parts: &'a [PartInfo],
}

/// The feed that numbers commits of new rows, in commit order.
pub const COMMITS: &str = "commit";

/// Adds a segment of new rows, as one more commit of [`COMMITS`], and widens the columns of its
/// tables. Commits follow one another from here on: whatever can be done before is done before.
///
/// # Errors
/// When the catalog fails.
pub async fn add_segment(
    tx: &mut Tx,
    object: &str,
    level: u8,
    writer: &str,
    at: Timestamp,
    byte_count: u64,
    parts: &[PartInfo],
) -> Result<(), Error> {
    let commit = tx.bump(COMMITS).await?;
    let counts = counts_of(parts);
    if !counts.is_empty() {
        let counts = serde_json::Value::from(counts).to_string();
        tx.execute(&sql::COUNT_ROWS, args![counts]).await?;
    }
    let new = NewSegment { object, level, writer, at, byte_count, parts };
    put_segment(tx, new, (Some(commit), Some(commit))).await
}

/// How many rows each table gets; rows of the present state are told of elsewhere already.
fn counts_of(parts: &[PartInfo]) -> Vec<serde_json::Value> {
    let mut counts = BTreeMap::new();
    for part in parts.iter().filter(|part| part.class.is_told()) {
        let key = (part.org.0, &*part.table, part.class.as_str());
        *counts.entry(key).or_insert(0) += part.row_count;
    }
    let count = |((org, table, class), rows)| serde_json::json!([org, table, class, number(rows)]);
    counts.into_iter().map(count).collect()
}

/// Puts a segment into the manifest, with the first and the last commit it may hold rows of.
async fn put_segment(
    tx: &mut Tx,
    new: NewSegment<'_>,
    commits: (Option<i64>, Option<i64>),
) -> Result<(), Error> {
    let NewSegment { object, level, writer, at, byte_count, parts } = new;
    let rows: u64 = parts.iter().map(|part| part.row_count).sum();
    let (bytes, rows) = (number(byte_count), number(rows));
    let values = args![object, i64::from(level), bytes, rows, at, writer, commits.0, commits.1];
    tx.execute(&sql::ADD_SEGMENT, values).await?;
    let entries: Vec<_> = parts.iter().map(entry).collect();
    let entries = serde_json::Value::from(entries).to_string();
    tx.execute(&sql::ADD_PARTS, args![object, i64::from(level), entries]).await?;
    let columns = columns_of(parts);
    if !columns.is_empty() {
        let columns = serde_json::Value::from(columns).to_string();
        tx.execute(&sql::WIDEN_COLUMNS, args![columns, COLUMNS_MAX]).await?;
    }
    Ok(())
}

fn entry(part: &PartInfo) -> serde_json::Value {
    serde_json::json!([
        part.org.0,
        part.table,
        part.class.as_str(),
        part.day,
        number(part.byte_offset),
        number(part.byte_count),
        number(part.row_count),
        part.received_min.0,
        part.received_max.0,
        part.agent_min.0,
        part.agent_max.0,
        number(part.hunt_min.0),
        number(part.hunt_max.0),
    ])
}

/// The columns of all parts, once each: with every type they have, and where they stand first.
fn columns_of(parts: &[PartInfo]) -> Vec<serde_json::Value> {
    let mut columns = BTreeMap::new();
    for part in parts {
        for (ordinal, column) in part.columns.iter().enumerate() {
            let Some(name) = sql_name(&column.name) else { continue };
            let key = (part.org.0, &part.table, name.into_owned());
            let seen = columns.entry(key).or_insert_with(|| (&column.name, 0, ordinal));
            seen.1 |= Types::of(column.kind).rank();
        }
    }
    let row = |((org, table, folded), (name, rank, ordinal))| {
        serde_json::json!([org, table, folded, name, rank, ordinal])
    };
    columns.into_iter().map(row).collect()
}

/// The parts of a table that may hold rows of the filter's ranges: one snapshot. Its objects stay
/// for at least the retirement grace.
///
/// # Errors
/// When the catalog fails.
pub async fn parts_of(
    catalog: &Catalog,
    org: OrgId,
    table: &str,
    filter: &PartFilter,
) -> Result<Vec<Part>, Error> {
    let (received, agent, hunt) = (&filter.received, &filter.agent, &filter.hunt);
    let values = args![
        i64::from(org.0),
        fold(table).as_ref(),
        *received.start(),
        *received.end(),
        i64::from(agent.start().0),
        i64::from(agent.end().0),
        number(hunt.start().0),
        number(hunt.end().0)
    ];
    let rows = catalog.fetch_all(&sql::PARTS_OF, values).await?;
    rows.iter().map(part).collect()
}

/// The parts of an organisation that may hold rows of the commits behind `after` up to `upto`, by
/// the numbers of [`COMMITS`]: one snapshot. They may hold rows of other commits as well.
///
/// # Errors
/// When the catalog fails.
pub async fn parts_of_commits(
    catalog: &Catalog,
    org: OrgId,
    after: i64,
    upto: i64,
) -> Result<Vec<Part>, Error> {
    let rows = catalog.fetch_all(&sql::PARTS_OF_COMMITS, args![org, after, upto]).await?;
    rows.iter().map(part).collect()
}

/// Names of the result tables, rising.
///
/// # Errors
/// When the catalog fails.
pub async fn tables(catalog: &Catalog, org: OrgId) -> Result<Vec<String>, Error> {
    let rows = catalog.fetch_all(&sql::TABLES, args![i64::from(org.0)]).await?;
    rows.iter().map(|row| Ok(row.get("table_name")?)).collect()
}

/// The columns of a table besides the system ones, with their SQL names, in the order to show.
///
/// # Errors
/// When the catalog fails.
pub async fn columns(catalog: &Catalog, org: OrgId, table: &str) -> Result<Vec<ColumnDecl>, Error> {
    let values = args![i64::from(org.0), fold(table).as_ref()];
    let rows = catalog.fetch_all(&sql::COLUMNS, values).await?;
    let column = |row: &Row| {
        let kind = Types::from_rank(row.get("rank")?).kind();
        Ok(ColumnDecl { name: row.get("name_folded")?, kind })
    };
    rows.iter().map(column).collect()
}

/// Puts a segment in the place of parts, or nothing. Objects without parts left are retired.
///
/// # Errors
/// [`Error::Stale`] when one of the parts is not there any more; roll back then.
pub async fn replace(
    tx: &mut Tx,
    old: &[Part],
    new: Option<NewSegment<'_>>,
    not_before: Timestamp,
    reason: &str,
) -> Result<Vec<String>, Error> {
    let removed = old
        .iter()
        .map(|part| serde_json::json!([part.object, part.part, number(part.info.row_count)]));
    let removed = serde_json::Value::from(removed.collect::<Vec<_>>()).to_string();
    tx.execute(&sql::LIGHTEN_SEGMENTS, args![removed.as_str()]).await?;
    let commits = tx.fetch_one(&sql::COMMITS_OF, args![removed.as_str()]).await?;
    let commits = (commits.get("commit_first")?, commits.get("commit_last")?);
    if tx.execute(&sql::REMOVE_PARTS, args![removed.as_str()]).await? != old.len() as u64 {
        return Err(Error::Stale);
    }
    if let Some(new) = new {
        put_segment(tx, new, commits).await?;
    }
    let rows = tx.fetch_all(&sql::REMOVE_EMPTY, args![removed]).await?;
    let empty: Result<Vec<String>, _> = rows.iter().map(|row| row.get("object")).collect();
    let empty = empty?;
    retire(tx, &empty, not_before, reason).await?;
    Ok(empty)
}

/// Says that objects are to be deleted, not before a time. Nothing may refer to them any more.
///
/// # Errors
/// When the catalog fails.
pub async fn retire(
    tx: &mut Tx,
    objects: &[String],
    not_before: Timestamp,
    reason: &str,
) -> Result<(), Error> {
    if !objects.is_empty() {
        let now = tx.now().await?;
        let objects = serde_json::Value::from(objects).to_string();
        tx.execute(&sql::RETIRE, args![objects, now, not_before, reason]).await?;
    }
    Ok(())
}

/// Keeps objects from being deleted until `expires_at`, for a reader that needs longer than the
/// grace. `false` when one of them may be deleted already; nothing is held then.
///
/// # Errors
/// When the catalog fails.
pub async fn hold(
    catalog: &Catalog,
    id: Uuid,
    objects: &[String],
    held_by: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<bool, Error> {
    // First the hold, then the look: a sweeper that does not see the hold yet has found the object
    // due before, and then so do we.
    let names = serde_json::Value::from(objects).to_string();
    let values = args![id, names.as_str(), held_by, expires_at];
    catalog.execute(Priority::Api, &sql::ADD_HOLD, values).await?;
    let safe = catalog.fetch_all(&sql::STILL_SAFE, args![names, now]).await?;
    let distinct: std::collections::BTreeSet<_> = objects.iter().collect();
    if safe.len() == distinct.len() {
        return Ok(true);
    }
    release(catalog, id).await?;
    Ok(false)
}

/// Ends a hold.
///
/// # Errors
/// When the catalog fails.
pub async fn release(catalog: &Catalog, id: Uuid) -> Result<(), Error> {
    catalog.execute(Priority::Api, &sql::RELEASE_HOLD, args![id]).await?;
    Ok(())
}

pub(crate) fn part(row: &Row) -> Result<Part, Error> {
    let class: String = row.get("class")?;
    let class: RowClass = class
        .parse()
        .map_err(|why| muster_catalog::Error::Other(format!("segment_part: {why}")))?;
    let count = |column| row.get::<i64>(column).map(|n| u64::try_from(n).unwrap_or_default());
    let agent = |column| row.get::<i64>(column).map(|n| AgentNo(u32::try_from(n).unwrap_or(0)));
    Ok(Part {
        object: row.get("object")?,
        part: row.get("part")?,
        level: row.get("level")?,
        info: PartInfo {
            org: row.get("org")?,
            table: row.get("table_name")?,
            class,
            day: row.get("day")?,
            byte_offset: count("byte_offset")?,
            byte_count: count("byte_count")?,
            row_count: count("row_count")?,
            received_min: row.get("received_min")?,
            received_max: row.get("received_max")?,
            agent_min: agent("agent_min")?,
            agent_max: agent("agent_max")?,
            hunt_min: HuntNo(count("hunt_min")?),
            hunt_max: HuntNo(count("hunt_max")?),
            columns: Vec::new(),
        },
    })
}

/// As an SQL integer; saturates.
pub(crate) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
