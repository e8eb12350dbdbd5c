//! Instances: one row each.

use std::time::Duration;

use muster_catalog::{Catalog, Error, Priority, Row, Tx, args, statements};
use muster_types::{Incarnation, InstanceId, Timestamp};

use crate::{Error as ClusterError, Facts, Load, Roles, clash, formats};

/// What a process says of itself when it starts.
#[derive(Clone, Debug)]
pub struct InstanceInfo {
    /// Kept in the data folder, for as long as that lives.
    pub id: InstanceId,
    /// A name for people, such as the host name.
    pub name: String,
    /// What it does.
    pub roles: Roles,
    /// The program's version.
    pub version: String,
    /// The newest layout of the catalog that it works with.
    pub level: u32,
    /// Where it listens, for people.
    pub addresses: Vec<String>,
    /// What else there is to know.
    pub facts: Facts,
}

/// An instance as the catalog knows it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What it said of itself.
    pub info: InstanceInfo,
    /// How often it has started.
    pub incarnation: Incarnation,
    /// When it started, by database time.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub heartbeat_at: Timestamp,
    /// Its heartbeat is young enough.
    pub live: bool,
    /// It has let go of everything and stopped, as opposed to having vanished.
    pub left: bool,
    /// How busy it was at its last heartbeat.
    pub load: Load,
}

/// Orders registrations: two that start at once see each other.
const TOPIC: &str = "instance";

statements! {
    REGISTER = "INSERT INTO instance (id, incarnation, name, roles, version, level, addresses, load,
            started_at, heartbeat_at, expires_at, facts)
        VALUES ($1, 1, $2, $3, $4, $5, $6, '{}', $7, $7, $8, $9)
        ON CONFLICT (id) DO UPDATE SET
            incarnation = instance.incarnation + 1,
            name = excluded.name,
            roles = excluded.roles,
            version = excluded.version,
            level = excluded.level,
            addresses = excluded.addresses,
            load = excluded.load,
            facts = excluded.facts,
            started_at = excluded.started_at,
            heartbeat_at = excluded.heartbeat_at,
            expires_at = excluded.expires_at
        RETURNING incarnation";
    HEARTBEAT = "UPDATE instance SET heartbeat_at = $3, expires_at = $4, load = $5
        WHERE id = $1 AND incarnation = $2 AND expires_at > $3";
    REVIVE = "UPDATE instance SET heartbeat_at = $3, expires_at = $4
        WHERE id = $1 AND incarnation = $2";
    BURY = "UPDATE instance SET expires_at = 0 WHERE id = $1 AND expires_at <= $2";
    LEAVE = "UPDATE instance SET expires_at = 0, left_at = $3 WHERE id = $1 AND incarnation = $2";
    small FORGET = "DELETE FROM instance WHERE heartbeat_at < $1";
    small LIST = "SELECT id, incarnation, name, roles, version, level, addresses, started_at,
            heartbeat_at, expires_at, load, facts, left_at
        FROM instance ORDER BY id";
}

/// Rows of instances that have not been heard of for so long are removed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// All instances, also those that have stopped.
///
/// # Errors
/// Any [`Error`] of the catalog.
pub async fn instances(catalog: &Catalog) -> Result<Vec<Instance>, Error> {
    let now = catalog.now().await?;
    let rows = catalog.fetch_all(&LIST, args![]).await?;
    rows.iter().map(|row| read(row, now)).collect()
}

pub(crate) async fn list(tx: &mut Tx, now: Timestamp) -> Result<Vec<Instance>, Error> {
    let rows = tx.fetch_all(&LIST, args![]).await?;
    rows.iter().map(|row| read(row, now)).collect()
}

fn read(row: &Row, now: Timestamp) -> Result<Instance, Error> {
    let addresses: String = row.get("addresses")?;
    let roles: String = row.get("roles")?;
    let started_at: Timestamp = row.get("started_at")?;
    let info = InstanceInfo {
        id: row.get("id")?,
        name: row.get("name")?,
        // Roles of a newer version are none of ours.
        roles: roles
            .split(',')
            .filter_map(|role| role.parse::<Roles>().ok())
            .fold(Roles::from_iter([]), |all, some| all.iter().chain(some.iter()).collect()),
        version: row.get("version")?,
        level: row.get("level")?,
        addresses: serde_json::from_str(&addresses).unwrap_or_default(),
        facts: Facts::read(&row.get::<String>("facts")?, started_at),
    };
    let left_at: Option<Timestamp> = row.get("left_at")?;
    Ok(Instance {
        info,
        incarnation: row.get("incarnation")?,
        started_at,
        heartbeat_at: row.get("heartbeat_at")?,
        live: row.get::<Timestamp>("expires_at")? > now,
        // A version that does not know of it leaves that of an earlier start.
        left: left_at.is_some_and(|left| left >= started_at),
        // Written by us; another version may write more or less.
        load: serde_json::from_str(&row.get::<String>("load")?).unwrap_or_default(),
    })
}

/// Registers a start and returns its incarnation; leases of the one before are void from here on.
///
/// # Errors
/// [`ClusterError::Clash`] when a live instance cannot be beside this one, or the catalog's.
pub(crate) async fn register(
    catalog: &Catalog,
    info: &InstanceInfo,
    ttl: Duration,
) -> Result<Incarnation, ClusterError> {
    let mut tx = queue(catalog).await?;
    check(&mut tx, info).await?;
    let now = tx.now().await?;
    let (roles, level) = (info.roles.to_string(), info.level);
    let addresses = serde_json::json!(info.addresses).to_string();
    let (name, version) = (info.name.as_str(), info.version.as_str());
    let facts = info.facts.write(now);
    let args = args![info.id, name, roles, version, level, addresses, now, now.plus(ttl), facts];
    let incarnation = tx.fetch_one(&REGISTER, args).await?.get("incarnation")?;
    tx.execute(&FORGET, args![now.minus(FORGOTTEN_AFTER)]).await?;
    tx.commit().await?;
    Ok(incarnation)
}

/// A transaction in the queue of registrations: it comes after everything that was in it before and has
/// committed.
pub(crate) async fn queue(catalog: &Catalog) -> Result<Tx, Error> {
    let mut tx = catalog.begin(Priority::Lease).await?;
    tx.bump(TOPIC).await?;
    Ok(tx)
}

/// Takes a transaction into the queue, for an instance that comes back.
pub(crate) async fn check_again(tx: &mut Tx, info: &InstanceInfo) -> Result<(), ClusterError> {
    tx.bump(TOPIC).await?;
    check(tx, info).await
}

/// Refuses to be beside an instance this one cannot be beside, or on stores this program does not read. In
/// the queue.
async fn check(tx: &mut Tx, info: &InstanceInfo) -> Result<(), ClusterError> {
    formats::check(tx, info).await?;
    let now = tx.now().await?;
    clash::find(info, &list(tx, now).await?).map_or(Ok(()), |clash| Err(clash.into()))
}

/// Renews; `false` when it came too late, so that others may have taken over.
pub(crate) async fn heartbeat(
    tx: &mut Tx,
    (id, incarnation): (InstanceId, Incarnation),
    now: Timestamp,
    ttl: Duration,
    load: &str,
) -> Result<bool, Error> {
    Ok(tx.execute(&HEARTBEAT, args![id, incarnation, now, now.plus(ttl), load]).await? == 1)
}

/// Comes back after expiry; `false` when a newer process has this id (or the row is gone).
pub(crate) async fn revive(
    tx: &mut Tx,
    (id, incarnation): (InstanceId, Incarnation),
    now: Timestamp,
    ttl: Duration,
) -> Result<bool, Error> {
    Ok(tx.execute(&REVIVE, args![id, incarnation, now, now.plus(ttl)]).await? == 1)
}

/// Makes sure an expired instance stays so until this transaction ends; `false` when it was
/// quicker and has renewed.
pub(crate) async fn bury(tx: &mut Tx, id: InstanceId, now: Timestamp) -> Result<bool, Error> {
    Ok(tx.execute(&BURY, args![id, now]).await? == 1)
}

pub(crate) async fn leave(
    tx: &mut Tx,
    id: InstanceId,
    incarnation: Incarnation,
) -> Result<(), Error> {
    let now = tx.now().await?;
    tx.execute(&LEAVE, args![id, incarnation, now]).await.map(drop)
}
