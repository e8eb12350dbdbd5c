//! YARA rules that osquery agents fetch by name: what `yara.signature_urls` of a configuration points to.

use bytes::Bytes;
use muster_catalog::{Catalog, Error, Row, Tx, args};
use muster_types::{OrgId, Timestamp};

use crate::ScheduleError;
use crate::check::invalid;

/// Files of one organisation; all of them are held in memory.
const FILES_MAX: i64 = 256;
/// Longest file.
const TEXT_BYTES_MAX: usize = 512 * 1024;
/// Longest name, which is the last part of a URL.
const NAME_BYTES_MAX: usize = 128;

muster_catalog::statements! {
    pub(crate) small ALL_YARA = "SELECT org, name, text FROM yara_rules";
    small COUNT = "SELECT COUNT(*) AS n FROM yara_rules WHERE org = $1 AND name <> $2";
    small LIST = "SELECT name, text, created_at, created_by FROM yara_rules
        WHERE org = $1 AND name > $2
        ORDER BY name
        LIMIT $3";
    GET = "SELECT name, text, created_at, created_by FROM yara_rules WHERE org = $1 AND name = $2";
    PUT = "INSERT INTO yara_rules (org, name, text, created_at, created_by, change)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (org, name) DO UPDATE
        SET text = excluded.text,
            created_at = excluded.created_at,
            created_by = excluded.created_by,
            change = excluded.change";
    DELETE = "DELETE FROM yara_rules WHERE org = $1 AND name = $2";
}

/// A file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YaraRules {
    /// Its name, as in the URL that agents fetch it from.
    pub name: String,
    /// The rules.
    pub text: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

fn read(row: &Row) -> Result<YaraRules, Error> {
    Ok(YaraRules {
        name: row.get("name")?,
        text: row.get("text")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
    })
}

/// One file as agents get it.
pub(crate) fn served(row: &Row) -> Result<(OrgId, String, Bytes), Error> {
    Ok((row.get("org")?, row.get("name")?, Bytes::from(row.get::<String>("text")?)))
}

/// Files of an organisation whose names come after `after`, at most `most`, by name.
///
/// # Errors
/// When the catalog fails.
pub async fn yara_list(
    catalog: &Catalog,
    org: OrgId,
    after: &str,
    most: u32,
) -> Result<Vec<YaraRules>, Error> {
    catalog.fetch_all(&LIST, args![org, after, most]).await?.iter().map(read).collect()
}

/// One file.
///
/// # Errors
/// When the catalog fails.
pub async fn yara_get(
    catalog: &Catalog,
    org: OrgId,
    name: &str,
) -> Result<Option<YaraRules>, Error> {
    catalog.fetch_optional(&GET, args![org, name]).await?.as_ref().map(read).transpose()
}

/// Stores a file; an earlier one of that name is replaced. The rules are not compiled here: the
/// endpoint's YARA says what it makes of them.
///
/// # Errors
/// [`ScheduleError`].
pub async fn yara_put_in(
    tx: &mut Tx,
    org: OrgId,
    (name, text): (&str, &str),
    by: &str,
    now: Timestamp,
) -> Result<(), ScheduleError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good);
    if !fits || name.starts_with('.') {
        let problem =
            "letters, digits, `-`, `_`, `.` and `~`, at most 128, not beginning with a dot";
        return Err(invalid("/name", problem));
    }
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(invalid("/text", format!("rules of 1 to {TEXT_BYTES_MAX} bytes")));
    }
    let change = tx.bump("schedule").await?;
    if tx.fetch_one(&COUNT, args![org, name]).await?.get::<i64>("n")? >= FILES_MAX {
        return Err(ScheduleError::TooMany(FILES_MAX));
    }
    tx.execute(&PUT, args![org, name, text, now, by, change]).await?;
    Ok(())
}

/// Deletes a file. Whether there was one.
///
/// # Errors
/// When the catalog fails.
pub async fn yara_delete_in(tx: &mut Tx, org: OrgId, name: &str) -> Result<bool, Error> {
    tx.bump("schedule").await?;
    Ok(tx.execute(&DELETE, args![org, name]).await? == 1)
}
