//! Labels: named sets of endpoints.

use muster_catalog::{Catalog, Error, Priority, Tx, args};
use muster_types::{EndpointNo, LabelNo, OrgId, Timestamp};

use crate::text::clean;

muster_catalog::statements! {
    FIND = "SELECT no FROM label WHERE org = $1 AND name = $2";
    INSERT = "INSERT INTO label
            (no, org, name, description, created_at, created_by, deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, NULL, $7)";
    /// The name is given free; no name that a person may choose holds a tilde.
    DELETE = "UPDATE label
        SET deleted_at = $3, name = name || '~' || CAST(no AS TEXT), change = $4
        WHERE org = $1 AND name = $2 AND deleted_at IS NULL";
    EMPTY = "UPDATE label_endpoint
        SET removed_at = $2, change = $3
        WHERE label_no = $1 AND removed_at IS NULL";
    PUT = "INSERT INTO label_endpoint
            (label_no, endpoint_no, added_at, added_by, removed_at, change)
        VALUES ($1, $2, $3, $4, NULL, $5)
        ON CONFLICT (label_no, endpoint_no) DO UPDATE
        SET added_at = excluded.added_at,
            added_by = excluded.added_by,
            removed_at = NULL,
            change = excluded.change
        WHERE label_endpoint.removed_at IS NOT NULL";
    /// Numbers that are no endpoint of the organisation are left out.
    PUT_MANY = {
        sqlite: "INSERT INTO label_endpoint
                (label_no, endpoint_no, added_at, added_by, removed_at, change)
            SELECT $1, endpoint.no, $3, $4, NULL, $5
            FROM json_each($6) AS given
            CROSS JOIN endpoint
            WHERE endpoint.no = given.value AND endpoint.org = $2 AND endpoint.deleted_at IS NULL
            ON CONFLICT (label_no, endpoint_no) DO UPDATE
            SET added_at = excluded.added_at,
                added_by = excluded.added_by,
                removed_at = NULL,
                change = excluded.change
            WHERE label_endpoint.removed_at IS NOT NULL",
        postgres: "INSERT INTO label_endpoint
                (label_no, endpoint_no, added_at, added_by, removed_at, change)
            SELECT $1, endpoint.no, $3, $4, NULL, $5
            FROM (SELECT DISTINCT value::BIGINT AS value
                  FROM jsonb_array_elements_text($6::JSONB) AS value) AS given
            JOIN endpoint ON endpoint.no = given.value
            WHERE endpoint.org = $2 AND endpoint.deleted_at IS NULL
            ON CONFLICT (label_no, endpoint_no) DO UPDATE
            SET added_at = excluded.added_at,
                added_by = excluded.added_by,
                removed_at = NULL,
                change = excluded.change
            WHERE label_endpoint.removed_at IS NOT NULL"
    };
    REMOVE_MANY = {
        sqlite: "UPDATE label_endpoint
            SET removed_at = $2, change = $3
            WHERE label_no = $1
              AND removed_at IS NULL
              AND endpoint_no IN (SELECT value FROM json_each($4))",
        postgres: "UPDATE label_endpoint
            SET removed_at = $2, change = $3
            WHERE label_no = $1
              AND removed_at IS NULL
              AND endpoint_no IN (SELECT value::BIGINT FROM jsonb_array_elements_text($4::JSONB) AS value)"
    };
}

/// Why a label is not as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LabelError {
    /// Not a name a label can have.
    #[error("{0:?} is no label name: 1 to 64 letters, digits, and . _ - : / between them")]
    Name(String),
    /// The name is taken.
    #[error("label {0:?} exists already")]
    Exists(String),
    /// No such label.
    #[error("no label {0:?}")]
    Unknown(String),
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] Error),
}

/// Makes a label.
///
/// # Errors
/// [`LabelError`].
pub async fn create_label(
    catalog: &Catalog,
    org: OrgId,
    name: &str,
    description: &str,
    by: &str,
    now: Timestamp,
) -> Result<LabelNo, LabelError> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let done = create_label_in(&mut tx, org, name, description, by, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// [`create_label`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`create_label`].
pub async fn create_label_in(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    description: &str,
    by: &str,
    now: Timestamp,
) -> Result<LabelNo, LabelError> {
    let change = tx.bump("directory").await?;
    if find(tx, org, name).await?.is_some() {
        return Err(LabelError::Exists(name.to_owned()));
    }
    let no = insert(tx, org, name, description, (by, now, change)).await?;
    Ok(no)
}

/// Deletes a label; its name is free again. Endpoints stay.
///
/// # Errors
/// [`LabelError`].
pub async fn delete_label(
    catalog: &Catalog,
    org: OrgId,
    name: &str,
    now: Timestamp,
) -> Result<(), LabelError> {
    let mut tx = catalog.begin(Priority::Api).await?;
    delete_label_in(&mut tx, org, name, now).await?;
    tx.commit().await?;
    Ok(())
}

/// [`delete_label`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`delete_label`].
pub async fn delete_label_in(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    now: Timestamp,
) -> Result<(), LabelError> {
    let change = tx.bump("directory").await?;
    let no = known(tx, org, name).await?;
    tx.execute(&DELETE, args![org, name, now, change]).await?;
    tx.execute(&EMPTY, args![no, now, change]).await?;
    Ok(())
}

/// Gives a label to endpoints; those that have it keep it. How many are new.
///
/// # Errors
/// [`LabelError`].
pub async fn add_members(
    catalog: &Catalog,
    org: OrgId,
    name: &str,
    endpoints: &[EndpointNo],
    by: &str,
    now: Timestamp,
) -> Result<u64, LabelError> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let done = add_members_in(&mut tx, org, name, endpoints, by, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// [`add_members`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`add_members`].
pub async fn add_members_in(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    endpoints: &[EndpointNo],
    by: &str,
    now: Timestamp,
) -> Result<u64, LabelError> {
    let json = serde_json::to_string(endpoints).expect("numbers become JSON");
    let change = tx.bump("directory").await?;
    let no = known(tx, org, name).await?;
    let added = tx.execute(&PUT_MANY, args![no, org, now, by, change, json]).await?;
    Ok(added)
}

/// Takes a label from endpoints. How many had it.
///
/// # Errors
/// [`LabelError`].
pub async fn remove_members(
    catalog: &Catalog,
    org: OrgId,
    name: &str,
    endpoints: &[EndpointNo],
    now: Timestamp,
) -> Result<u64, LabelError> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let done = remove_members_in(&mut tx, org, name, endpoints, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// [`remove_members`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`remove_members`].
pub async fn remove_members_in(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    endpoints: &[EndpointNo],
    now: Timestamp,
) -> Result<u64, LabelError> {
    let json = serde_json::to_string(endpoints).expect("numbers become JSON");
    let change = tx.bump("directory").await?;
    let no = known(tx, org, name).await?;
    let removed = tx.execute(&REMOVE_MANY, args![no, now, change, json]).await?;
    Ok(removed)
}

/// Gives a label to one endpoint at its enrolment, making the label when it is gone.
pub(crate) async fn put_member(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    endpoint: EndpointNo,
    now: Timestamp,
    change: i64,
) -> Result<(), Error> {
    let made = find_or_create(tx, org, name, "enrolment", now, change).await;
    let label = match made {
        Ok(label) => label,
        Err(LabelError::Catalog(error)) => return Err(error),
        // Checked when the secret was made.
        Err(_) => return Ok(()),
    };
    tx.execute(&PUT, args![label, endpoint, now, "enrolment", change]).await?;
    Ok(())
}

pub(crate) async fn find_or_create(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    by: &str,
    now: Timestamp,
    change: i64,
) -> Result<LabelNo, LabelError> {
    match find(tx, org, name).await? {
        Some(no) => Ok(no),
        None => insert(tx, org, name, "", (by, now, change)).await,
    }
}

async fn insert(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    description: &str,
    (by, now, change): (&str, Timestamp, i64),
) -> Result<LabelNo, LabelError> {
    if !is_name(name) {
        return Err(LabelError::Name(name.to_owned()));
    }
    let no = tx.bump("number/label").await?;
    let args = args![no, org, name, clean(description, 1_024), now, by, change];
    tx.execute(&INSERT, args).await?;
    Ok(LabelNo(no.unsigned_abs()))
}

async fn find(tx: &mut Tx, org: OrgId, name: &str) -> Result<Option<LabelNo>, Error> {
    let row = tx.fetch_optional(&FIND, args![org, name]).await?;
    row.map(|row| row.get("no")).transpose()
}

async fn known(tx: &mut Tx, org: OrgId, name: &str) -> Result<LabelNo, LabelError> {
    let found = if is_name(name) { find(tx, org, name).await? } else { None };
    found.ok_or_else(|| LabelError::Unknown(name.to_owned()))
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/');
    let ends = [name.chars().next(), name.chars().next_back()];
    name.chars().count() <= 64
        && name.chars().all(inner)
        && ends.into_iter().all(|end| end.is_some_and(char::is_alphanumeric))
}
