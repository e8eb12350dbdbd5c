//! Sinks in the catalog.

use std::sync::Arc;

use muster_catalog::{Catalog, Row, Tx, args};
use muster_cluster::secrets::Key;
use muster_types::{OrgId, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::head::Head;
use crate::model::Settings;
use crate::progress::{Progress, RefusedRow};
use crate::{Error, NewSink, Refusal, Sink};

muster_catalog::statements! {
    ADD = "
        INSERT INTO sink (
            no, org, name, kind, settings, filter, sealed, paused, created_at, created_by, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10)";

    ADD_PROGRESS = "
        INSERT INTO sink_progress (
            sink_no, epoch, commit_no, positions, base_rows, delivered_rows, filtered_rows,
            refused_rows, gone_rows, failures)
        VALUES ($1, 0, $2, $3, $4, 0, 0, 0, 0, 0)";

    small COUNT = "SELECT COUNT(*) AS n FROM sink";

    NAMED = "SELECT no FROM sink WHERE org = $1 AND name = $2";

    /// All of an organisation; there are few.
    LIST = "
        SELECT
            s.no, s.org, s.name, s.settings, s.filter, s.sealed, s.paused, s.created_at,
            s.created_by, p.commit_no, p.positions, p.within, p.aim, p.base_rows, p.delivered_rows,
            p.filtered_rows, p.refused_rows, p.gone_rows, p.delivered_at, p.received_until,
            p.error, p.error_at, p.failures, p.retry_at
        FROM sink AS s
        JOIN sink_progress AS p ON p.sink_no = s.no
        WHERE s.org = $1
        ORDER BY s.name";

    /// All that are to be worked.
    small ACTIVE = "
        SELECT no, org, name, settings, filter, sealed, paused, created_at, created_by
        FROM sink
        WHERE paused = 0
        ORDER BY no";

    SEALED = "SELECT sealed FROM sink WHERE no = $1";

    PAUSE = "
        UPDATE sink SET paused = $3, change = $4
        WHERE org = $1 AND name = $2";

    REMOVE = "DELETE FROM sink WHERE no = $1";

    REMOVE_PROGRESS = "DELETE FROM sink_progress WHERE sink_no = $1";

    REMOVE_REFUSED = "DELETE FROM sink_refused WHERE sink_no = $1";

    /// The installation.
    CLUSTER = "SELECT cluster FROM install WHERE id = 1";

    REFUSED = "
        SELECT at, row_id, reason
        FROM sink_refused
        WHERE sink_no = $1
        ORDER BY at DESC, row_id DESC
        LIMIT $2";
}

/// The feed that is raised with each change of a sink.
pub(crate) const FEED: &str = "sink";
/// Sinks of an installation: each has a bounded share of memory and one task.
const SINKS_MAX: usize = 32;

/// What the secret of a sink is sealed under.
fn secret_name(no: i64) -> String {
    format!("sink/{no}")
}

pub(crate) async fn create(
    tx: &mut Tx,
    key: &Key,
    org: OrgId,
    new: &NewSink,
    by: &str,
    now: Timestamp,
) -> Result<Sink, Refusal> {
    new.check()?;
    let no = tx.bump("number/sink").await?;
    // Whoever makes one waits here for the other, so what is counted and looked for stays so.
    let change = tx.bump(FEED).await?;
    if tx.fetch_optional(&NAMED, args![org, &*new.name]).await?.is_some() {
        return Err(Refusal::Exists(new.name.clone()));
    }
    let count = tx.fetch_one(&COUNT, args![]).await?.get::<usize>("n")?;
    if count >= SINKS_MAX {
        return Err(Refusal::TooMany(count));
    }
    let sealed = new.secret.as_ref();
    let sealed = sealed.map(|s| key.seal(&secret_name(no), s.expose_secret().as_bytes()));
    let has_secret = sealed.is_some();
    let settings = Settings { destination: new.destination.clone(), batch: new.batch };
    let json = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| muster_catalog::Error::Other(error.to_string()))
    };
    let settings = json(serde_json::to_string(&settings))?;
    let filter = json(serde_json::to_string(&new.filter))?;
    let kind = new.destination.kind();
    let values = args![no, org, &*new.name, kind, settings, filter, sealed, now, by, change];
    tx.execute(&ADD, values).await?;
    let head = Head::read_in(tx, org).await?;
    let base = head.rows(&new.filter);
    let values = args![no, head.commit, head.positions.encode(), base];
    tx.execute(&ADD_PROGRESS, values).await?;
    Ok(Sink {
        no,
        org,
        name: new.name.clone(),
        destination: new.destination.clone(),
        filter: new.filter.clone(),
        batch: new.batch,
        has_secret,
        paused: false,
        created_at: now,
        created_by: by.to_owned(),
    })
}

/// Whether there is such a sink.
pub(crate) async fn set_paused(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    paused: bool,
) -> Result<bool, muster_catalog::Error> {
    let change = tx.bump(FEED).await?;
    Ok(tx.execute(&PAUSE, args![org, name, paused, change]).await? == 1)
}

/// Whether there was such a sink.
pub(crate) async fn remove(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
) -> Result<bool, muster_catalog::Error> {
    tx.bump(FEED).await?;
    let Some(row) = tx.fetch_optional(&NAMED, args![org, name]).await? else { return Ok(false) };
    let no: i64 = row.get("no")?;
    tx.execute(&REMOVE_PROGRESS, args![no]).await?;
    tx.execute(&REMOVE_REFUSED, args![no]).await?;
    Ok(tx.execute(&REMOVE, args![no]).await? == 1)
}

/// The sinks of an organisation with how far they are, by name.
pub(crate) async fn list(catalog: &Catalog, org: OrgId) -> Result<Vec<(Sink, Progress)>, Error> {
    let rows = catalog.fetch_all(&LIST, args![org]).await?;
    rows.iter().map(|row| Ok((sink(row)?, Progress::read(row)?))).collect()
}

/// The sinks of all organisations that are to be worked. One that cannot be read stops no other.
pub(crate) async fn active(catalog: &Catalog) -> Result<Vec<Sink>, Error> {
    let rows = catalog.fetch_all(&ACTIVE, args![]).await?;
    let readable = rows.iter().filter_map(|row| {
        sink(row).inspect_err(|error| tracing::error!(%error, "a sink is left alone")).ok()
    });
    Ok(readable.collect())
}

/// The installation, as text.
pub(crate) async fn cluster(catalog: &Catalog) -> Result<Arc<str>, Error> {
    let row = catalog.fetch_optional(&CLUSTER, args![]).await?;
    let row = row.ok_or_else(|| Error::Damaged("the installation is not known".to_owned()))?;
    Ok(row.get::<uuid::Uuid>("cluster")?.to_string().into())
}

/// The secret of a sink, opened.
pub(crate) async fn secret(
    catalog: &Catalog,
    key: &Key,
    no: i64,
) -> Result<Option<SecretString>, Error> {
    let row = catalog.fetch_optional(&SEALED, args![no]).await?;
    let sealed: Option<Vec<u8>> = row.map(|row| row.get("sealed")).transpose()?.flatten();
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = key.open(&secret_name(no), &sealed).map_err(Error::Secret)?;
    let plain = String::from_utf8(plain).map_err(|_| Error::Damaged("secret".to_owned()))?;
    Ok(Some(plain.into()))
}

/// What was refused, newest first.
pub(crate) async fn refused(
    catalog: &Catalog,
    no: i64,
    limit: u32,
) -> Result<Vec<RefusedRow>, Error> {
    let rows = catalog.fetch_all(&REFUSED, args![no, limit]).await?;
    let one = |row: &Row| {
        Ok(RefusedRow { at: row.get("at")?, id: row.get("row_id")?, reason: row.get("reason")? })
    };
    rows.iter().map(one).collect()
}

fn sink(row: &Row) -> Result<Sink, Error> {
    let no = row.get("no")?;
    let damaged = |what: &str, error: &serde_json::Error| {
        Error::Damaged(format!("{what} of sink {no}: {error}"))
    };
    let settings: Settings = serde_json::from_str(&row.get::<String>("settings")?)
        .map_err(|error| damaged("settings", &error))?;
    let filter = serde_json::from_str(&row.get::<String>("filter")?)
        .map_err(|error| damaged("filter", &error))?;
    Ok(Sink {
        no,
        org: row.get("org")?,
        name: row.get("name")?,
        destination: settings.destination,
        filter,
        batch: settings.batch,
        has_secret: row.get::<Option<Vec<u8>>>("sealed")?.is_some(),
        paused: row.get("paused")?,
        created_at: row.get("created_at")?,
        created_by: row.get("created_by")?,
    })
}
