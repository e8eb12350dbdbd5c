//! Small secrets of the installation, sealed in the catalog.
//!
//! Sealed is AES-256-GCM with a random nonce; the name is authenticated with it, so that one
//! secret cannot be put in another's place. Layout: version byte, 12 bytes of nonce, ciphertext,
//! tag. The key stays outside the catalog: a copy of the database alone opens nothing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use muster_catalog::{Catalog, Priority, Tx, args, statements};
use muster_types::Format;

use crate::Error;

/// The form of a sealed secret.
pub const SEALED: Format = Format::first("sealed-secret");
const VERSION: u8 = SEALED.only();

statements! {
    GET = "SELECT sealed FROM secret WHERE name = $1";
    /// Nobody else changes it before the transaction ends; on SQLite there is one writer anyway.
    GET_TO_CHANGE = {
        sqlite: "SELECT sealed FROM secret WHERE name = $1",
        postgres: "SELECT sealed FROM secret WHERE name = $1 FOR UPDATE"
    };
    ADD = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
    PUT = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, created_at = excluded.created_at";
}

/// The key that seals. Never printed.
pub struct Key(RandomizedNonceKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A key that was passed in.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("the length is that of the key"))
    }

    /// Reads the key file, or makes one that only its owner can read.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when it cannot be read or made, is not 32 bytes, or is open to others.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        match Self::load(path) {
            Err(LoadError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
            other => return other.map_err(|error| key_file(path, &error)),
        }
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| key_file(path, &"the system has no randomness"))?;
        // Under another name first: a crash never leaves half a key, a race never two.
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            match std::fs::hard_link(&draft, path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => std::fs::remove_file(&draft)?,
            }
            path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
        };
        write().map_err(|error| key_file(path, &error))?;
        Self::load(path).map_err(|error| key_file(path, &error))
    }

    fn load(path: &Path) -> Result<Self, LoadError> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(LoadError::Open);
        }
        let mut bytes = Vec::with_capacity(33);
        file.take(33).read_to_end(&mut bytes)?;
        bytes.as_slice().try_into().map(Self::new).map_err(|_| LoadError::Length)
    }

    /// Seals under a name.
    #[must_use]
    pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        let mut text = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut text)
            .expect("sealing fails only above 64 GiB");
        [&[VERSION], nonce.as_ref().as_slice(), &text].concat()
    }

    /// Opens what was sealed under this name.
    ///
    /// # Errors
    /// [`Error::Sealed`] for another key, another name, or damage.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.try_open(name, sealed).ok_or_else(|| Error::Sealed { name: name.to_owned() })
    }

    fn try_open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let rest = sealed.strip_prefix(&[VERSION])?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let aad = Aad::from(name.as_bytes());
        let length = self.0.open_in_place(nonce, aad, &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

/// Reads a secret; `None` when there is none of this name.
///
/// # Errors
/// [`Error::Sealed`] when it does not open, or the catalog's.
pub async fn get(catalog: &Catalog, key: &Key, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(row) = catalog.fetch_optional(&GET, args![name]).await? else { return Ok(None) };
    key.open(name, &row.get::<Vec<u8>>("sealed")?).map(Some)
}

/// Whether there is a secret of this name, for whoever cannot open it.
///
/// # Errors
/// The catalog's.
pub async fn exists(catalog: &Catalog, name: &str) -> Result<bool, Error> {
    Ok(catalog.fetch_optional(&GET, args![name]).await?.is_some())
}

/// Reads a secret, or keeps the one that `make` returns. Of several that start at once one wins,
/// and all get its secret.
///
/// # Errors
/// As [`get`].
pub async fn get_or_create(
    catalog: &Catalog,
    key: &Key,
    name: &str,
    make: impl FnOnce() -> Vec<u8>,
) -> Result<Vec<u8>, Error> {
    if let Some(found) = get(catalog, key, name).await? {
        return Ok(found);
    }
    let sealed = key.seal(name, &make());
    let now = catalog.now().await?;
    catalog.execute(Priority::Api, &ADD, args![name, sealed, now]).await?;
    let found = get(catalog, key, name).await?;
    found.ok_or_else(|| Error::Sealed { name: name.to_owned() })
}

/// Reads a secret in the transaction that is about to [`put`] it: what two do at once happens one after
/// the other.
///
/// # Errors
/// As [`get`].
pub async fn get_to_change(tx: &mut Tx, key: &Key, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let row = tx.fetch_optional(&GET_TO_CHANGE, args![name]).await?;
    let Some(row) = row else { return Ok(None) };
    key.open(name, &row.get::<Vec<u8>>("sealed")?).map(Some)
}

/// Replaces a secret, within a transaction.
///
/// # Errors
/// The catalog's.
pub async fn put(tx: &mut Tx, key: &Key, name: &str, plain: &[u8]) -> Result<(), Error> {
    let now = tx.now().await?;
    tx.execute(&PUT, args![name, key.seal(name, plain), now]).await?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("others can read it; change its mode to 0600")]
    Open,
    #[error("it is not a key of 32 bytes")]
    Length,
}

fn key_file(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::KeyFile { path: path.display().to_string(), reason: reason.to_string() }
}
