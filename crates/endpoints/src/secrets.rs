//! Enrol secrets: random, shown once, only their hash is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_catalog::{Catalog, Error, Priority, Tx, args};
use muster_types::{OrgId, Timestamp};
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};

use crate::labels::{self, LabelError};
use crate::text::clean;

/// Marks an enrol secret, so that scanners find one that leaked.
pub const PREFIX: &str = "mes_";

muster_catalog::statements! {
    INSERT = "INSERT INTO enrol_secret
            (no, org, name, hash, labels, created_at, created_by, expires_at, revoked_at, uses,
             client_certificate)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, 0, $9)";
    FIND = "SELECT no, org, name, labels, expires_at, revoked_at, client_certificate
        FROM enrol_secret
        WHERE hash = $1";
    /// Secrets are made by people: tens of them.
    small LIST = "SELECT no, name, labels, created_at, created_by, expires_at, revoked_at, uses,
             client_certificate
        FROM enrol_secret
        WHERE org = $1
        ORDER BY no";
    REVOKE = "UPDATE enrol_secret
        SET revoked_at = $3
        WHERE no = $1 AND org = $2 AND revoked_at IS NULL";
}

/// A secret as it is listed: never with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolSecret {
    /// Its number.
    pub no: i64,
    /// What it is for.
    pub name: String,
    /// Labels given to the endpoints that are made by its use.
    pub labels: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// From when on it is not good any more.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// How many agents enrolled with it.
    pub uses: u64,
    /// Whether it is good only on a connection with a client certificate.
    pub client_certificate: bool,
}

/// A secret to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSecret {
    /// What it is for.
    pub name: String,
    /// Labels to give; missing ones are made.
    pub labels: Vec<String>,
    /// From when on it is not good any more.
    pub expires_at: Option<Timestamp>,
    /// Whether it is good only on a connection with a client certificate, and so are the node keys of
    /// agents that enrol with it. For agents whose protocol has node keys.
    pub client_certificate: bool,
}

/// What a good secret allows.
#[derive(Clone, Debug)]
pub(crate) struct SecretGrant {
    pub(crate) no: i64,
    pub(crate) org: OrgId,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) client_certificate: bool,
}

/// Makes a secret; its number and its text, which is not kept.
///
/// # Errors
/// [`LabelError`] for a label's name that cannot be, or when the catalog fails.
pub async fn create_secret(
    catalog: &Catalog,
    org: OrgId,
    new: &NewSecret,
    by: &str,
    now: Timestamp,
) -> Result<(i64, String), LabelError> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let done = create_secret_in(&mut tx, org, new, by, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// [`create_secret`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`create_secret`].
pub async fn create_secret_in(
    tx: &mut Tx,
    org: OrgId,
    new: &NewSecret,
    by: &str,
    now: Timestamp,
) -> Result<(i64, String), LabelError> {
    let mut random = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut random).map_err(|error| {
        Error::Other(format!("the operating system gives no random bytes: {error}"))
    })?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let no = insert(tx, org, new, &text, (by, now)).await?;
    Ok((no, text))
}

/// Takes over a secret that agents have from another server: its number. `None` when it is known here
/// already, revoked or not.
///
/// # Errors
/// As [`create_secret`].
pub async fn adopt_secret_in(
    tx: &mut Tx,
    org: OrgId,
    new: &NewSecret,
    text: &str,
    by: &str,
    now: Timestamp,
) -> Result<Option<i64>, LabelError> {
    // First, so that nobody else adopts it meanwhile.
    tx.bump("directory").await?;
    if tx.fetch_optional(&FIND, args![hash(text)]).await?.is_some() {
        return Ok(None);
    }
    insert(tx, org, new, text, (by, now)).await.map(Some)
}

async fn insert(
    tx: &mut Tx,
    org: OrgId,
    new: &NewSecret,
    text: &str,
    (by, now): (&str, Timestamp),
) -> Result<i64, LabelError> {
    let names = serde_json::to_string(&new.labels).expect("text becomes JSON");
    let change = tx.bump("directory").await?;
    let no = tx.bump("number/enrol_secret").await?;
    for name in &new.labels {
        labels::find_or_create(tx, org, name, by, now, change).await?;
    }
    let name = clean(&new.name, 128);
    let certificate = i64::from(new.client_certificate);
    let args = args![no, org, name, hash(text), names, now, by, new.expires_at, certificate];
    tx.execute(&INSERT, args).await?;
    Ok(no)
}

/// The secrets of an organisation, by number.
///
/// # Errors
/// When the catalog fails.
pub async fn list_secrets(catalog: &Catalog, org: OrgId) -> Result<Vec<EnrolSecret>, Error> {
    let rows = catalog.fetch_all(&LIST, args![org]).await?;
    let read = |row: &muster_catalog::Row| {
        Ok(EnrolSecret {
            no: row.get("no")?,
            name: row.get("name")?,
            labels: read_labels(&row.get::<String>("labels")?)?,
            created_at: row.get("created_at")?,
            created_by: row.get("created_by")?,
            expires_at: row.get("expires_at")?,
            revoked_at: row.get("revoked_at")?,
            uses: row.get("uses")?,
            client_certificate: row.get::<i64>("client_certificate")? != 0,
        })
    };
    rows.iter().map(read).collect()
}

/// Revokes a secret; agents that used it stay. Whether there was one to revoke.
///
/// # Errors
/// When the catalog fails.
pub async fn revoke_secret(
    catalog: &Catalog,
    org: OrgId,
    no: i64,
    now: Timestamp,
) -> Result<bool, Error> {
    Ok(catalog.execute(Priority::Api, &REVOKE, args![no, org, now]).await? == 1)
}

/// [`revoke_secret`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`revoke_secret`].
pub async fn revoke_secret_in(
    tx: &mut Tx,
    org: OrgId,
    no: i64,
    now: Timestamp,
) -> Result<bool, Error> {
    Ok(tx.execute(&REVOKE, args![no, org, now]).await? == 1)
}

/// What a secret allows now; `None` when it is not good.
pub(crate) async fn check(
    catalog: &Catalog,
    text: &str,
    now: Timestamp,
) -> Result<Option<SecretGrant>, Error> {
    // Found by hash, so neither time nor errors tell how near a guess was.
    let Some(row) = catalog.fetch_optional(&FIND, args![hash(text)]).await? else {
        return Ok(None);
    };
    let expired = row.get::<Option<Timestamp>>("expires_at")?.is_some_and(|at| at <= now);
    if expired || row.get::<Option<Timestamp>>("revoked_at")?.is_some() {
        return Ok(None);
    }
    let labels = read_labels(&row.get::<String>("labels")?)?;
    Ok(Some(SecretGrant {
        no: row.get("no")?,
        org: row.get("org")?,
        name: row.get("name")?,
        labels,
        client_certificate: row.get::<i64>("client_certificate")? != 0,
    }))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.trim().as_bytes()).into()
}

fn read_labels(json: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(json)
        .map_err(|error| Error::Other(format!("labels of an enrol secret: {error}")))
}
