//! The ring in the catalog, sealed as one secret.

use muster_catalog::{Catalog, Priority, Tx};
use muster_cluster::{Error, secrets};
use muster_types::Timestamp;
use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};

use super::ring::RETIRED_OVER;

const NAME: &str = "node-keys/1";
/// A retired key is forgotten this long after the last of its agents had to enrol again.
const FORGOTTEN_AFTER: std::time::Duration = std::time::Duration::from_secs(86_400);

/// One key of the ring.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) id: u8,
    pub(super) key: [u8; 32],
    pub(super) created_at: Timestamp,
    pub(super) retired_at: Option<Timestamp>,
}

impl StoredKey {
    pub(super) fn new(id: u8, key: [u8; 32], created_at: Timestamp) -> Self {
        Self { id, key, created_at, retired_at: None }
    }
}

/// A key of the ring as it is listed: never itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its number, part of every node key it signed.
    pub id: u8,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
}

/// The keys, by number.
///
/// # Errors
/// When the catalog fails or the ring does not open.
pub async fn list_keys(catalog: &Catalog, seal: &secrets::Key) -> Result<Vec<KeyInfo>, Error> {
    let mut keys = read(catalog, seal).await?.unwrap_or_default();
    keys.sort_by_key(|key| key.id);
    let info = |key: StoredKey| KeyInfo {
        id: key.id,
        created_at: key.created_at,
        retired_at: key.retired_at,
    };
    Ok(keys.into_iter().map(info).collect())
}

/// Adds a key, which signs from a minute later on; agents keep the node keys they have. Its number.
///
/// # Errors
/// When the catalog fails, the ring does not open, or it is full (200 keys).
pub async fn rotate_keys(
    catalog: &Catalog,
    seal: &secrets::Key,
    now: Timestamp,
) -> Result<u8, Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let id = rotate_keys_in(&mut tx, seal, now).await?;
    tx.commit().await?;
    Ok(id)
}

/// [`rotate_keys`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`rotate_keys`].
pub async fn rotate_keys_in(tx: &mut Tx, seal: &secrets::Key, now: Timestamp) -> Result<u8, Error> {
    let mut keys = read_to_change(tx, seal).await?;
    let gone = |key: &StoredKey| {
        key.retired_at.is_some_and(|at| at.plus(RETIRED_OVER).plus(FORGOTTEN_AFTER) <= now)
    };
    keys.retain(|key| !gone(key));
    // Numbers go round, so that a forgotten one is not used again soon.
    let last = keys.last().map_or(0, |key| key.id);
    let id = (1..=u8::MAX).map(|step| last.wrapping_add(step));
    let id = id.filter(|id| keys.iter().all(|key| key.id != *id)).find(|_| keys.len() < 200);
    let full = || muster_catalog::Error::Other("the ring holds 200 keys; retire some".to_owned());
    let id = id.ok_or_else(full)?;
    keys.push(StoredKey::new(id, random()?, now));
    write(tx, seal, &keys).await?;
    Ok(id)
}

/// Retires a key: within an hour every agent whose node key it signed has to enrol again. At least
/// one key stays; whether there was one to retire.
///
/// # Errors
/// When the catalog fails or the ring does not open.
pub async fn retire_key(
    catalog: &Catalog,
    seal: &secrets::Key,
    id: u8,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let done = retire_key_in(&mut tx, seal, id, now).await?;
    tx.commit().await?;
    Ok(done)
}

/// [`retire_key`] in the caller's transaction, for what has to happen with it.
///
/// # Errors
/// As [`retire_key`].
pub async fn retire_key_in(
    tx: &mut Tx,
    seal: &secrets::Key,
    id: u8,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut keys = read_to_change(tx, seal).await?;
    let others = keys.iter().any(|key| key.id != id && key.retired_at.is_none());
    let found = keys.iter_mut().find(|key| key.id == id && key.retired_at.is_none());
    let Some(key) = found.filter(|_| others) else { return Ok(false) };
    key.retired_at = Some(now);
    write(tx, seal, &keys).await?;
    Ok(true)
}

pub(super) async fn read_or_create(
    catalog: &Catalog,
    seal: &secrets::Key,
    now: Timestamp,
) -> Result<Vec<StoredKey>, Error> {
    let first = vec![StoredKey::new(1, random()?, now)];
    let make = || serde_json::to_vec(&first).expect("keys become JSON");
    let json = secrets::get_or_create(catalog, seal, NAME, make).await?;
    parse(&json)
}

async fn read(catalog: &Catalog, seal: &secrets::Key) -> Result<Option<Vec<StoredKey>>, Error> {
    secrets::get(catalog, seal, NAME).await?.map(|json| parse(&json)).transpose()
}

async fn read_to_change(tx: &mut Tx, seal: &secrets::Key) -> Result<Vec<StoredKey>, Error> {
    let found = secrets::get_to_change(tx, seal, NAME).await?;
    Ok(found.map(|json| parse(&json)).transpose()?.unwrap_or_default())
}

async fn write(tx: &mut Tx, seal: &secrets::Key, keys: &[StoredKey]) -> Result<(), Error> {
    let json = serde_json::to_vec(keys).expect("keys become JSON");
    secrets::put(tx, seal, NAME, &json).await
}

fn parse(json: &[u8]) -> Result<Vec<StoredKey>, Error> {
    let keys: Vec<StoredKey> = serde_json::from_slice(json).unwrap_or_default();
    if keys.is_empty() { Err(Error::Sealed { name: NAME.to_owned() }) } else { Ok(keys) }
}

fn random() -> Result<[u8; 32], Error> {
    let mut key = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut key).map_err(|error| {
        let text = format!("the operating system gives no random bytes: {error}");
        Error::from(muster_catalog::Error::Other(text))
    })?;
    Ok(key)
}
