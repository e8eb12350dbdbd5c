//! Policies in the catalog. Every change is stamped from the feed `inventory`.

use muster_catalog::{Catalog, Error, Row, Tx, args};
use muster_types::{OrgId, Timestamp};

use super::{NewPolicy, POLICIES_MAX, Policy, PolicyError, PolicyNo};

muster_catalog::statements! {
    FIND_NAME = "SELECT no FROM policy WHERE org = $1 AND name = $2";
    COUNT = "SELECT count(*) AS n FROM policy WHERE org = $1 AND deleted_at IS NULL";
    INSERT = "INSERT INTO policy
            (org, no, name, description, resolution, critical, query, platforms, labels,
             exclude_labels, enabled, created_at, created_by, updated_at, updated_by, asked_since,
             deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $13, $12, NULL, $14)";
    /// Answers stay good unless the question is another one, or was not asked for a while.
    UPDATE = "UPDATE policy
        SET name = $3,
            description = $4,
            resolution = $5,
            critical = $6,
            asked_since = CASE WHEN query <> $7 OR enabled <> $11 THEN $12 ELSE asked_since END,
            query = $7,
            platforms = $8,
            labels = $9,
            exclude_labels = $10,
            enabled = $11,
            updated_at = $12,
            updated_by = $13,
            change = $14
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL";
    /// The name is given free; no name that a person may choose holds a tilde.
    DELETE = "UPDATE policy
        SET deleted_at = $3, name = name || '~' || CAST(no AS TEXT), change = $4
        WHERE org = $1 AND no = $2 AND deleted_at IS NULL";
    SINCE = "SELECT no, org, name, description, resolution, critical, query, platforms, labels,
            exclude_labels, enabled, created_at, created_by, updated_at, updated_by, asked_since,
            deleted_at
        FROM policy
        WHERE change > $1";
}

/// Makes a policy, in the caller's transaction.
///
/// # Errors
/// [`PolicyError`].
pub async fn create(
    tx: &mut Tx,
    org: OrgId,
    new: NewPolicy,
    by: &str,
    now: Timestamp,
) -> Result<PolicyNo, PolicyError> {
    let new = new.checked()?;
    // Taken first, so that changes to policies come one after another.
    let change = tx.bump("inventory").await?;
    if tx.fetch_optional(&FIND_NAME, args![org, &new.name]).await?.is_some() {
        return Err(PolicyError::Exists(new.name));
    }
    let count: usize = tx.fetch_one(&COUNT, args![org]).await?.get("n")?;
    if count >= POLICIES_MAX {
        return Err(PolicyError::TooMany);
    }
    let no = tx.bump("number/policy").await?;
    let no = u32::try_from(no).map_err(|_| Error::Other("out of policy numbers".to_owned()))?;
    tx.execute(&INSERT, columns(org, PolicyNo(no), &new, by, now, change)).await?;
    Ok(PolicyNo(no))
}

/// Writes a policy anew, in the caller's transaction. Another query makes former answers void.
///
/// # Errors
/// [`PolicyError`].
pub async fn change(
    tx: &mut Tx,
    org: OrgId,
    no: PolicyNo,
    new: NewPolicy,
    by: &str,
    now: Timestamp,
) -> Result<(), PolicyError> {
    let new = new.checked()?;
    let change = tx.bump("inventory").await?;
    if let Some(row) = tx.fetch_optional(&FIND_NAME, args![org, &new.name]).await?
        && row.get::<u32>("no")? != no.0
    {
        return Err(PolicyError::Exists(new.name));
    }
    if tx.execute(&UPDATE, columns(org, no, &new, by, now, change)).await? == 0 {
        return Err(PolicyError::Unknown(no));
    }
    Ok(())
}

/// Deletes a policy, in the caller's transaction; its name is free again.
///
/// # Errors
/// [`PolicyError`].
pub async fn delete(
    tx: &mut Tx,
    org: OrgId,
    no: PolicyNo,
    now: Timestamp,
) -> Result<(), PolicyError> {
    let change = tx.bump("inventory").await?;
    match tx.execute(&DELETE, args![org, no.0, now, change]).await? {
        0 => Err(PolicyError::Unknown(no)),
        _ => Ok(()),
    }
}

fn columns(
    org: OrgId,
    no: PolicyNo,
    new: &NewPolicy,
    by: &str,
    now: Timestamp,
    change: i64,
) -> muster_catalog::Args {
    let json = |list: &[String]| serde_json::to_string(list).expect("text becomes JSON");
    let platforms = serde_json::to_string(&new.platforms).expect("words become JSON");
    args![
        org,
        no.0,
        &new.name,
        &new.description,
        &new.resolution,
        new.critical,
        &new.query,
        platforms,
        json(&new.labels),
        json(&new.exclude_labels),
        new.enabled,
        now,
        by,
        change,
    ]
}

/// Policies that changed after this number of the feed.
pub(crate) async fn read_since(catalog: &Catalog, change: i64) -> Result<Vec<Policy>, Error> {
    let rows = catalog.fetch_all(&SINCE, args![change]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Policy, Error> {
    let query: String = row.get("query")?;
    Ok(Policy {
        no: PolicyNo(row.get("no")?),
        org: row.get("org")?,
        sql: query.as_str().into(),
        text: NewPolicy {
            name: row.get("name")?,
            description: row.get("description")?,
            resolution: row.get("resolution")?,
            critical: row.get("critical")?,
            query,
            platforms: json(row, "platforms")?,
            labels: json(row, "labels")?,
            exclude_labels: json(row, "exclude_labels")?,
            enabled: row.get("enabled")?,
        },
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
        updated_at: row.get("updated_at")?,
        updated_by: row.get("updated_by")?,
        asked_since: row.get("asked_since")?,
        deleted: row.get::<Option<Timestamp>>("deleted_at")?.is_some(),
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row, column: &str) -> Result<T, Error> {
    serde_json::from_str(&row.get::<String>(column)?)
        .map_err(|error| Error::Other(format!("{column} of a policy cannot be read: {error}")))
}
