//! The set of CAs, and how it changes.

use muster_catalog::{Catalog, Tx};
use muster_cluster::secrets::{self, Key};
use muster_types::{Clock, Timestamp};

use crate::stored::{self, NAME};
use crate::{Authority, Error};

/// CAs there may be at once: each agent is told all of them.
pub const CAS_MAX: usize = 4;

/// A CA of the installation.
pub struct Known {
    /// Its number.
    pub no: u32,
    /// When it was added; the beginning of time for the first.
    pub added_at: Timestamp,
    /// Certificate and key.
    pub authority: Authority,
}

/// All CAs; there is always one.
pub struct Authorities {
    all: Vec<Known>,
}

impl Authorities {
    /// Reads them from the catalog; the first server of an installation makes one.
    ///
    /// # Errors
    /// When the catalog is away, or the key is not the one they were sealed with.
    pub async fn open(catalog: &Catalog, key: &Key, clock: &dyn Clock) -> Result<Self, Error> {
        let text = match secrets::get(catalog, key, NAME).await? {
            Some(text) => text,
            None => {
                let first = vec![Known {
                    no: 1,
                    added_at: Timestamp(0),
                    authority: Authority::generate(clock)?,
                }];
                let make = || stored::write(&first).into_bytes();
                secrets::get_or_create(catalog, key, NAME, make).await?
            }
        };
        Ok(Self { all: parse(text)? })
    }

    /// The one that signs the servers' certificates.
    ///
    /// # Panics
    /// Never: there is always one.
    #[must_use]
    pub fn signing(&self) -> &Known {
        self.all.first().expect("there is always one")
    }

    /// All of them; the one that signs comes first.
    #[must_use]
    pub fn all(&self) -> &[Known] {
        &self.all
    }

    /// The certificates of all, for agents and people to trust; the one that signs comes first.
    #[must_use]
    pub fn trusted_pem(&self) -> String {
        self.all.iter().map(|ca| ca.authority.certificate_pem.as_str()).collect()
    }
}

/// Adds a CA, which agents are told to trust beside the others. Its number.
///
/// # Errors
/// When the catalog fails, they do not open, or there are [`CAS_MAX`].
pub async fn add_in(tx: &mut Tx, key: &Key, clock: &dyn Clock) -> Result<u32, Error> {
    let mut all = read(tx, key).await?;
    if all.len() >= CAS_MAX {
        return Err(Error::Full(all.len()));
    }
    // Numbers are not used again: a link may still stand that came about by a CA which is gone.
    let given = u32::try_from(tx.bump("number/ca").await?).unwrap_or(u32::MAX - 1) + 1;
    let no = all.iter().map(|ca| ca.no + 1).fold(given, u32::max);
    let authority = Authority::generate(clock)?;
    all.push(Known { no, added_at: clock.now(), authority });
    write(tx, key, &all).await?;
    Ok(no)
}

/// Lets a CA sign the servers' certificates from now on.
///
/// # Errors
/// When the catalog fails, they do not open, or there is none of this number.
pub async fn sign_in(tx: &mut Tx, key: &Key, no: u32) -> Result<(), Error> {
    let mut all = read(tx, key).await?;
    let at = all.iter().position(|ca| ca.no == no).ok_or(Error::Unknown(no))?;
    all[..=at].rotate_right(1);
    write(tx, key, &all).await
}

/// Forgets a CA and its key: what it signed is not trusted any more.
///
/// # Errors
/// When the catalog fails, they do not open, there is none of this number, or it signs.
pub async fn retire_in(tx: &mut Tx, key: &Key, no: u32) -> Result<(), Error> {
    let mut all = read(tx, key).await?;
    match all.iter().position(|ca| ca.no == no) {
        None => return Err(Error::Unknown(no)),
        Some(0) => return Err(Error::Signs(no)),
        Some(at) => all.remove(at),
    };
    write(tx, key, &all).await
}

async fn read(tx: &mut Tx, key: &Key) -> Result<Vec<Known>, Error> {
    let text = secrets::get_to_change(tx, key, NAME).await?;
    parse(text.unwrap_or_default())
}

async fn write(tx: &mut Tx, key: &Key, all: &[Known]) -> Result<(), Error> {
    Ok(secrets::put(tx, key, NAME, stored::write(all).as_bytes()).await?)
}

fn parse(text: Vec<u8>) -> Result<Vec<Known>, Error> {
    let text = String::from_utf8(text);
    let text = text.map_err(|_| muster_cluster::Error::Sealed { name: NAME.to_owned() })?;
    stored::read(&text)
}
