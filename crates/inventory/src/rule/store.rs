//! Rules and their history in the catalog.

use muster_catalog::{Catalog, Error, Priority, Row, Tx, args};
use muster_endpoints::{LabelError, add_members_in, remove_members_in};
use muster_types::{EndpointNo, Epoch, LabelNo, OrgId, Timestamp};
use roaring::RoaringBitmap;

use super::{RULES_MAX, checked};

muster_catalog::statements! {
    FIND_LABEL = "SELECT no FROM label WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    COUNT = "SELECT count(*) AS n FROM label_rule WHERE org = $1 AND label_no <> $2";
    PUT = "INSERT INTO label_rule
            (label_no, org, query, owner_no, owner_name, created_at, updated_at, revision,
             evaluated_at, changed_at, error, failing_since, epoch)
        VALUES ($1, $2, $3, $4, $5, $6, $6, 1, NULL, NULL, NULL, NULL, 0)
        ON CONFLICT (label_no) DO UPDATE
        SET query = excluded.query,
            owner_no = excluded.owner_no,
            owner_name = excluded.owner_name,
            updated_at = excluded.updated_at,
            revision = label_rule.revision + 1,
            evaluated_at = NULL,
            error = NULL,
            failing_since = NULL";
    REMOVE = "DELETE FROM label_rule WHERE label_no = $1";
    /// Some hundreds at most.
    small REMOVE_DELETED = "DELETE FROM label_rule
        WHERE label_no IN (SELECT no FROM label WHERE deleted_at IS NOT NULL)";
    ONE = "SELECT label.no AS label_no, label.name, rule.org, rule.query, rule.owner_no,
            rule.owner_name, rule.created_at, rule.updated_at, rule.revision, rule.evaluated_at,
            rule.changed_at, rule.error, rule.failing_since
        FROM label
        JOIN label_rule AS rule ON rule.label_no = label.no
        WHERE label.org = $1 AND label.name = $2 AND label.deleted_at IS NULL";
    /// Some hundreds at most.
    small ALL = "SELECT label.no AS label_no, label.name, rule.org, rule.query, rule.owner_no,
            rule.owner_name, rule.created_at, rule.updated_at, rule.revision, rule.evaluated_at,
            rule.changed_at, rule.error, rule.failing_since
        FROM label_rule AS rule
        JOIN label ON label.no = rule.label_no
        WHERE label.deleted_at IS NULL
        ORDER BY rule.owner_no, rule.label_no";
    EVALUATED = "UPDATE label_rule
        SET evaluated_at = $4,
            changed_at = CASE WHEN $5 = 1 THEN $4 ELSE changed_at END,
            error = NULL,
            failing_since = NULL,
            epoch = $3
        WHERE label_no = $1 AND revision = $2 AND epoch <= $3";
    FAILED = "UPDATE label_rule
        SET evaluated_at = $4,
            error = $5,
            failing_since = COALESCE(failing_since, $4),
            epoch = $3
        WHERE label_no = $1 AND revision = $2 AND epoch <= $3";
    NOTE = "INSERT INTO label_rule_change
            (label_no, change, at, added, removed, added_count, removed_count, member_count)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    HISTORY = "SELECT change, at, added, removed, added_count, removed_count, member_count
        FROM label_rule_change
        WHERE label_no = $1 AND change < $2
        ORDER BY change DESC
        LIMIT $3";
    FORGET = "DELETE FROM label_rule_change WHERE at < $1";
}

/// A label's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The label.
    pub label_no: LabelNo,
    /// Its name.
    pub label: String,
    /// Whose.
    pub org: OrgId,
    /// One SELECT with a column `endpoint`.
    pub query: String,
    /// The user it is asked as.
    pub owner_no: i64,
    /// Their name.
    pub owner: String,
    /// When the label got a rule.
    pub created_at: Timestamp,
    /// When it was last written anew.
    pub updated_at: Timestamp,
    /// How often it was.
    pub revision: i64,
    /// When it was last asked.
    pub evaluated_at: Option<Timestamp>,
    /// When its members last changed.
    pub changed_at: Option<Timestamp>,
    /// Why it has no answer; its members stay as they were.
    pub error: Option<String>,
    /// Since when.
    pub failing_since: Option<Timestamp>,
}

/// Who came and went at once.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleChange {
    /// Names it; rising.
    pub change: i64,
    /// When.
    pub at: Timestamp,
    /// Endpoints that carry the label since.
    pub added: RoaringBitmap,
    /// Endpoints that do no longer.
    pub removed: RoaringBitmap,
    /// How many carry it since.
    pub member_count: u64,
}

/// Why a rule is not as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuleError {
    /// The text is none.
    #[error("{0}")]
    Query(String),
    /// No such label, or it has no rule.
    #[error("{0}")]
    Unknown(String),
    /// There are enough.
    #[error("there are {RULES_MAX} rules already, and no organisation may have more")]
    TooMany,
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] Error),
}

async fn label(tx: &mut Tx, org: OrgId, name: &str) -> Result<LabelNo, RuleError> {
    let row = tx.fetch_optional(&FIND_LABEL, args![org, name]).await?;
    let row = row.ok_or_else(|| RuleError::Unknown(format!("no label {name:?}")))?;
    Ok(row.get("no")?)
}

/// Makes a label follow a rule, or another one, in the caller's transaction.
///
/// # Errors
/// [`RuleError`].
pub async fn set(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    query: &str,
    (owner_no, owner): (i64, &str),
    now: Timestamp,
) -> Result<(), RuleError> {
    let query = checked(query)?;
    let no = label(tx, org, name).await?;
    if tx.fetch_one(&COUNT, args![org, no]).await?.get::<usize>("n")? >= RULES_MAX {
        return Err(RuleError::TooMany);
    }
    tx.execute(&PUT, args![no, org, query, owner_no, owner, now]).await?;
    Ok(())
}

/// Lets a label's members stay as they are from now on, in the caller's transaction.
///
/// # Errors
/// [`RuleError`].
pub async fn remove(tx: &mut Tx, org: OrgId, name: &str) -> Result<(), RuleError> {
    let no = label(tx, org, name).await?;
    match tx.execute(&REMOVE, args![no]).await? {
        0 => Err(RuleError::Unknown(format!("label {name:?} has no rule"))),
        _ => Ok(()),
    }
}

/// Drops the rules of labels that are deleted, in the transaction that deletes one, after it: everybody
/// takes the feed of the directory before rules.
///
/// # Errors
/// When the catalog fails.
pub async fn remove_deleted(tx: &mut Tx) -> Result<(), Error> {
    tx.execute(&REMOVE_DELETED, args![]).await?;
    Ok(())
}

/// The rule of a label.
///
/// # Errors
/// When the catalog fails.
pub async fn find(catalog: &Catalog, org: OrgId, name: &str) -> Result<Option<Rule>, Error> {
    let row = catalog.fetch_optional(&ONE, args![org, name]).await?;
    row.as_ref().map(read).transpose()
}

/// All rules of all organisations, by owner.
///
/// # Errors
/// When the catalog fails.
pub async fn list(catalog: &Catalog) -> Result<Vec<Rule>, Error> {
    catalog.fetch_all(&ALL, args![]).await?.iter().map(read).collect()
}

/// What a rule changed, newest first, before `before`; perhaps without that of the last seconds.
///
/// # Errors
/// When the catalog fails.
pub async fn history(
    catalog: &Catalog,
    label: LabelNo,
    before: i64,
    limit: u32,
) -> Result<Vec<RuleChange>, Error> {
    let rows = catalog.stale().fetch_all(&HISTORY, args![label, before, limit]).await?;
    let read = |row: &Row| {
        Ok(RuleChange {
            change: row.get("change")?,
            at: row.get("at")?,
            added: bitmap(row, "added")?,
            removed: bitmap(row, "removed")?,
            member_count: row.get("member_count")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Writes what a rule came to; `false` when another instance or another text of the rule came first.
/// Nothing is changed then.
pub(super) async fn apply(
    catalog: &Catalog,
    rule: &Rule,
    (old, new): (&RoaringBitmap, &RoaringBitmap),
    epoch: Epoch,
    now: Timestamp,
) -> Result<bool, Error> {
    let (added, removed) = (new - old, old - new);
    let changed = !added.is_empty() || !removed.is_empty();
    let mut tx = catalog.begin(Priority::Presence).await?;
    if changed {
        // The feed first, as everybody takes it: else two could wait for each other.
        let change = tx.bump("directory").await?;
        let numbers = |set: &RoaringBitmap| set.iter().map(EndpointNo).collect::<Vec<_>>();
        let by = format!("rule of {}", rule.owner);
        let (org, name) = (rule.org, &rule.label);
        if !added.is_empty() {
            let done = add_members_in(&mut tx, org, name, &numbers(&added), &by, now).await;
            if unless_gone(done)?.is_none() {
                return Ok(false);
            }
        }
        if !removed.is_empty() {
            let done = remove_members_in(&mut tx, org, name, &numbers(&removed), now).await;
            if unless_gone(done)?.is_none() {
                return Ok(false);
            }
        }
        let sets = (bytes(&added), bytes(&removed));
        let counts = (added.len(), removed.len(), new.len());
        let note = args![rule.label_no, change, now, sets.0, sets.1, counts.0, counts.1, counts.2];
        tx.execute(&NOTE, note).await?;
    }
    let args = args![rule.label_no, rule.revision, epoch, now, changed];
    if tx.execute(&EVALUATED, args).await? == 0 {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

/// The label may have been deleted meanwhile.
fn unless_gone(done: Result<u64, LabelError>) -> Result<Option<u64>, Error> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(LabelError::Catalog(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Writes why a rule has no answer.
pub(super) async fn fail(
    catalog: &Catalog,
    rule: &Rule,
    why: &str,
    epoch: Epoch,
    now: Timestamp,
) -> Result<(), Error> {
    let why: String = why.chars().take(2_000).collect();
    let args = args![rule.label_no, rule.revision, epoch, now, why];
    catalog.execute(Priority::Presence, &FAILED, args).await?;
    Ok(())
}

/// Forgets changes before this time.
pub(super) async fn forget(catalog: &Catalog, before: Timestamp) -> Result<(), Error> {
    catalog.execute(Priority::Presence, &FORGET, args![before]).await?;
    Ok(())
}

fn bytes(set: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(set.serialized_size());
    set.serialize_into(&mut bytes).expect("writing to memory does not fail");
    bytes
}

fn bitmap(row: &Row, column: &str) -> Result<RoaringBitmap, Error> {
    RoaringBitmap::deserialize_from(row.get::<Vec<u8>>(column)?.as_slice())
        .map_err(|error| Error::Other(format!("{column} of a label's change: {error}")))
}

fn read(row: &Row) -> Result<Rule, Error> {
    Ok(Rule {
        label_no: row.get("label_no")?,
        label: row.get("name")?,
        org: row.get("org")?,
        query: row.get("query")?,
        owner_no: row.get("owner_no")?,
        owner: row.get("owner_name")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        revision: row.get("revision")?,
        evaluated_at: row.get("evaluated_at")?,
        changed_at: row.get("changed_at")?,
        error: row.get("error")?,
        failing_since: row.get("failing_since")?,
    })
}
