//! Requests for debug archives and their parts, in the catalog.

use std::time::Duration;

use muster_catalog::{Catalog, Priority, Row, Tx, args, statements};
use muster_types::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ANSWER_TIME, Error};

statements! {
    CREATE = "INSERT INTO debug_request (no, requested_by, requested_at, seconds, wanted, answer_by)
        VALUES ($1, $2, $3, $4, $5, $6)";
    GET = "SELECT no, requested_by, requested_at, seconds, wanted, answer_by
        FROM debug_request
        WHERE no = $1";
    /// Requests are few: they go after a day.
    small OPEN = "SELECT no, requested_by, requested_at, seconds, wanted, answer_by
        FROM debug_request
        WHERE answer_by > $1
            AND NOT EXISTS (
                SELECT 1 FROM debug_part
                WHERE debug_part.request_no = debug_request.no AND debug_part.instance = $2)
        ORDER BY no";
    PARTS = "SELECT instance, object, byte_count, problem, ended_at
        FROM debug_part
        WHERE request_no = $1
        ORDER BY instance";
    ADD_PART = "INSERT INTO debug_part (request_no, instance, object, byte_count, problem, ended_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (request_no, instance) DO NOTHING";
    small OLD = "SELECT no FROM debug_request WHERE requested_at < $1 ORDER BY no LIMIT 100";
    FORGET_PARTS = "DELETE FROM debug_part WHERE request_no = $1";
    FORGET = "DELETE FROM debug_request WHERE no = $1";
}

/// The feed that numbers requests.
const FEED: &str = "number/debug_request";

/// An instance that is asked for its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its id.
    pub id: InstanceId,
    /// Its name when it was asked.
    pub name: String,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// Who asks.
    pub requested_by: String,
    /// How long the processor is watched, in seconds.
    pub seconds: u32,
    /// Who is asked.
    pub wanted: Vec<(InstanceId, String)>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub no: i64,
    /// Who asked.
    pub requested_by: String,
    /// When, by database time.
    pub requested_at: Timestamp,
    /// How long the processor is watched, in seconds.
    pub seconds: u32,
    /// Who is asked.
    pub wanted: Vec<Wanted>,
    /// Parts that come later are not waited for, by database time.
    pub answer_by: Timestamp,
}

/// What an instance answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Who.
    pub instance: InstanceId,
    /// The object; `None` when there is none, and `problem` says why.
    pub object: Option<String>,
    /// Its length.
    pub byte_count: u64,
    /// What went wrong.
    pub problem: Option<String>,
    /// When, by database time.
    pub ended_at: Timestamp,
}

/// Writes a request down, in the transaction of whoever asks; its number.
///
/// # Errors
/// The catalog's.
pub async fn create(tx: &mut Tx, new: &NewRequest) -> Result<Request, Error> {
    let now = tx.now().await?;
    let no = tx.bump(FEED).await?;
    let answer_by = now.plus(Duration::from_secs(u64::from(new.seconds)) + ANSWER_TIME);
    let wanted: Vec<Wanted> =
        new.wanted.iter().map(|(id, name)| Wanted { id: *id, name: name.clone() }).collect();
    let text = serde_json::to_string(&wanted).map_err(|e| Error::Damaged(e.to_string()))?;
    let (by, seconds) = (new.requested_by.as_str(), i64::from(new.seconds));
    tx.execute(&CREATE, args![no, by, now, seconds, text, answer_by]).await?;
    Ok(Request {
        no,
        requested_by: new.requested_by.clone(),
        requested_at: now,
        seconds: new.seconds,
        wanted,
        answer_by,
    })
}

/// One request.
///
/// # Errors
/// The catalog's.
pub async fn get(catalog: &Catalog, no: i64) -> Result<Option<Request>, Error> {
    catalog.fetch_optional(&GET, args![no]).await?.as_ref().map(read).transpose()
}

/// The parts that are there.
///
/// # Errors
/// The catalog's.
pub async fn parts(catalog: &Catalog, no: i64) -> Result<Vec<Part>, Error> {
    let rows = catalog.fetch_all(&PARTS, args![no]).await?;
    let part = |row: &Row| {
        Ok(Part {
            instance: row.get("instance")?,
            object: row.get("object")?,
            byte_count: row.get("byte_count")?,
            problem: row.get("problem")?,
            ended_at: row.get("ended_at")?,
        })
    };
    rows.iter().map(part).collect()
}

/// Requests that this instance has yet to answer.
pub(super) async fn open(catalog: &Catalog, me: InstanceId) -> Result<Vec<Request>, Error> {
    let now = catalog.now().await?;
    let rows = catalog.fetch_all(&OPEN, args![now, me]).await?;
    let mut open = Vec::new();
    for row in &rows {
        let request = read(row)?;
        if request.wanted.iter().any(|wanted| wanted.id == me) {
            open.push(request);
        }
    }
    Ok(open)
}

/// Says that a part is there, or why it is not. The first word counts.
pub(super) async fn answer(
    catalog: &Catalog,
    no: i64,
    me: InstanceId,
    put: Result<(&str, u64), &str>,
) -> Result<(), Error> {
    let mut tx = catalog.begin(Priority::Presence).await?;
    let now = tx.now().await?;
    let (object, byte_count) = put.map_or((None, 0), |(name, count)| (Some(name), count));
    tx.execute(&ADD_PART, args![no, me, object, byte_count, put.err(), now]).await?;
    Ok(tx.commit().await?)
}

/// Requests older than this.
pub(super) async fn old(catalog: &Catalog, before: Timestamp) -> Result<Vec<i64>, Error> {
    let rows = catalog.fetch_all(&OLD, args![before]).await?;
    Ok(rows.iter().map(|row| row.get("no")).collect::<Result<_, _>>()?)
}

/// Forgets a request whose objects are gone.
pub(super) async fn forget(catalog: &Catalog, no: i64) -> Result<(), Error> {
    let mut tx = catalog.begin(Priority::Presence).await?;
    tx.execute(&FORGET_PARTS, args![no]).await?;
    tx.execute(&FORGET, args![no]).await?;
    Ok(tx.commit().await?)
}

fn read(row: &Row) -> Result<Request, Error> {
    let wanted: String = row.get("wanted")?;
    Ok(Request {
        no: row.get("no")?,
        requested_by: row.get("requested_by")?,
        requested_at: row.get("requested_at")?,
        seconds: row.get("seconds")?,
        wanted: serde_json::from_str(&wanted).map_err(|e| Error::Damaged(e.to_string()))?,
        answer_by: row.get("answer_by")?,
    })
}
