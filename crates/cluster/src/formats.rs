//! Which version is written of a form that instances read of each other.
//!
//! Each instance tells in its row what it reads. When all that live read a newer version than the one that
//! is written, that is noted; when it has been so for a while ([`crate::Options::formats_settle`]), or by
//! command ([`raise_formats`]), it is written from then on, and whoever reads less is not let in any more.
//! Registrations and raises stand in one queue, so none slips past the other. A version is never lowered: an
//! instance that has not heard yet writes the older one, which all read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use muster_catalog::{Catalog, Error, Tx, args, statements};
use muster_types::{Format, Timestamp};
use tokio::sync::watch;

use crate::instance::{self, Instance, InstanceInfo};

statements! {
    small STORED = "SELECT name, version, wanted, wanted_since FROM stored_format ORDER BY name";
    NOTE = "INSERT INTO stored_format (name, version, wanted, wanted_since)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE SET
            version = excluded.version,
            wanted = excluded.wanted,
            wanted_since = excluded.wanted_since";
}

/// The version that is written of each form, by name; those not named are in the version that programs read
/// which do not tell.
pub type Written = BTreeMap<String, u8>;

/// Tells the version to write, as it rises; cheap to clone.
#[derive(Clone, Debug)]
pub struct Formats(watch::Receiver<Written>);

impl Formats {
    /// A handle, and what it tells from.
    #[must_use]
    pub fn channel() -> (watch::Sender<Written>, Self) {
        let (sender, receiver) = watch::channel(Written::new());
        (sender, Self(receiver))
    }

    /// The version to write of a form: the newest that all instances which live read, and never one that
    /// this program does not know.
    #[must_use]
    pub fn version(&self, format: &Format) -> u8 {
        let written = self.0.borrow().get(format.name).copied();
        written.unwrap_or(format.untold).clamp(format.untold, format.newest)
    }
}

/// What the catalog says of one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFormat {
    /// Its name.
    pub name: String,
    /// What is written.
    pub version: u8,
    /// What all that live read; the same when nothing newer is waited for.
    pub wanted: u8,
    /// Since when.
    pub wanted_since: Timestamp,
}

/// What the catalog says of forms; those of which only the first version is known are left out.
///
/// # Errors
/// Any [`Error`] of the catalog.
pub async fn stored_formats(catalog: &Catalog) -> Result<Vec<StoredFormat>, Error> {
    catalog.fetch_all(&STORED, args![]).await?.iter().map(read).collect()
}

/// Raises to what all instances that live read, without waiting; what was raised.
///
/// # Errors
/// [`Error::Refused`] with the instances that read less than this program writes, or the catalog's.
pub async fn raise_formats(
    catalog: &Catalog,
    formats: &[Format],
) -> Result<Vec<StoredFormat>, Error> {
    let mut tx = instance::queue(catalog).await?;
    let now = tx.now().await?;
    let instances = instance::list(&mut tx, now).await?;
    let mut short = String::new();
    for format in formats {
        for other in instances.iter().filter(|one| one.live && reads(one, format) < format.newest) {
            let (name, version, reads) =
                (&other.info.name, &other.info.version, reads(other, format));
            let between = if short.is_empty() { "" } else { ", " };
            let form = format.name;
            let _ =
                write!(short, "{between}{name} (version {version}, {form} up to version {reads})");
        }
    }
    if !short.is_empty() {
        return Err(Error::Refused(format!(
            "newer forms need every server to read them, and these do not: {short}; upgrade or stop \
             them first"
        )));
    }
    let stored = rows(&mut tx).await?;
    let mut raised = steps(formats, &stored, &instances, (now, Duration::ZERO));
    raised.retain_mut(|step| {
        step.version = step.wanted;
        !stored.iter().any(|one| one.name == step.name && one.version == step.version)
    });
    note(&mut tx, &raised).await?;
    tx.commit().await?;
    Ok(raised)
}

/// What is written, and whether something is to be noted or raised: then [`advance`].
pub(crate) async fn look(
    tx: &mut Tx,
    formats: &[Format],
    instances: &[Instance],
    (now, settle): (Timestamp, Duration),
) -> Result<(Written, bool), Error> {
    let stored = rows(tx).await?;
    let due = !steps(formats, &stored, instances, (now, settle)).is_empty();
    Ok((stored.into_iter().map(|one| (one.name, one.version)).collect(), due))
}

/// Notes and raises what is due, in the queue of registrations.
pub(crate) async fn advance(
    catalog: &Catalog,
    formats: &[Format],
    settle: Duration,
) -> Result<Written, Error> {
    let mut tx = instance::queue(catalog).await?;
    let now = tx.now().await?;
    let instances = instance::list(&mut tx, now).await?;
    let stored = rows(&mut tx).await?;
    let steps = steps(formats, &stored, &instances, (now, settle));
    note(&mut tx, &steps).await?;
    tx.commit().await?;
    for step in &steps {
        let StoredFormat { name, version, wanted, .. } = step;
        let raised =
            stored.iter().find(|one| one.name == *name).is_some_and(|one| one.version < *version);
        if raised {
            tracing::info!(
                format = name,
                version,
                "all servers read this version: it is written from now on"
            );
        } else if wanted > version {
            tracing::info!(format = name, version, wanted, after = ?settle, "a newer version will be written");
        }
    }
    let written = stored.into_iter().chain(steps);
    Ok(written.map(|one| (one.name, one.version)).collect())
}

/// Refuses a program that does not read what is written. In the queue of registrations.
pub(crate) async fn check(tx: &mut Tx, info: &InstanceInfo) -> Result<(), Error> {
    for StoredFormat { name, version, .. } in rows(tx).await? {
        let reads = info.facts.reads.get(&name).copied().unwrap_or(0);
        if version > reads {
            let knows = match reads {
                0 => "does not know it".to_owned(),
                reads => format!("reads up to {reads}"),
            };
            return Err(Error::Refused(format!(
                "{name} is written in version {version} here, and this version of muster {knows}; \
                 start the version that wrote it, or a newer one"
            )));
        }
    }
    Ok(())
}

/// What an instance reads of a form.
fn reads(instance: &Instance, format: &Format) -> u8 {
    instance.info.facts.reads.get(format.name).copied().unwrap_or(format.untold)
}

/// The rows that are to be other than they are.
fn steps(
    formats: &[Format],
    stored: &[StoredFormat],
    instances: &[Instance],
    (now, settle): (Timestamp, Duration),
) -> Vec<StoredFormat> {
    let step = |format: &Format| {
        let known = stored.iter().find(|one| one.name == format.name);
        let version = known.map_or(format.untold, |one| one.version);
        let live = instances.iter().filter(|one| one.live).map(|one| reads(one, format));
        // Not above what this program knows: that is for a newer one to raise. Never below what is written.
        let all = live.min().unwrap_or(format.newest).min(format.newest).max(version);
        let name = format.name.to_owned();
        match known {
            None if all == version => None,
            Some(known) if known.wanted == all && all == version => None,
            Some(known) if known.wanted == all => (known.wanted_since.plus(settle) <= now)
                .then(|| StoredFormat { version: all, ..known.clone() }),
            _ => Some(StoredFormat { name, version, wanted: all, wanted_since: now }),
        }
    };
    formats.iter().filter_map(step).collect()
}

async fn rows(tx: &mut Tx) -> Result<Vec<StoredFormat>, Error> {
    tx.fetch_all(&STORED, args![]).await?.iter().map(read).collect()
}

fn read(row: &muster_catalog::Row) -> Result<StoredFormat, Error> {
    Ok(StoredFormat {
        name: row.get("name")?,
        version: row.get("version")?,
        wanted: row.get("wanted")?,
        wanted_since: row.get("wanted_since")?,
    })
}

async fn note(tx: &mut Tx, steps: &[StoredFormat]) -> Result<(), Error> {
    for step in steps {
        let (version, wanted) = (i64::from(step.version), i64::from(step.wanted));
        tx.execute(&NOTE, args![step.name.as_str(), version, wanted, step.wanted_since]).await?;
    }
    Ok(())
}
