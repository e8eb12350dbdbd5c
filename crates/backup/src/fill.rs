//! Filling empty stores, so that it can be cut off at any point and done again.
//!
//! A row in the target says what it is being filled from. Done again from the same source, tables
//! whose rows are the same already are left alone, others are emptied and filled anew, and objects that
//! are there are compared. Until the last transaction nothing may run on the target.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use muster_archive::Archive;
use muster_catalog::copy::Loader;
use muster_catalog::{Catalog, Priority, args};

use crate::source::{ObjectReader, Rows, Source, Wanted, digest};
use crate::standing::Copy;
use crate::{Error, statements as sql};

/// Objects copied at once, each whole in memory.
const AT_ONCE: usize = 2;

/// The stores to be filled.
#[derive(Clone, Debug)]
pub struct Target {
    /// A catalog that is empty or half filled; not migrated yet or just so.
    pub catalog: Catalog,
    /// Its archive. `None`: the source's own, in which everything is already.
    pub archive: Option<Archive>,
}

/// What was put into the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Tables.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Objects that are there now,
    pub objects: u64,
    /// and their bytes.
    pub bytes: u64,
    /// Objects that the source did not have.
    pub missing: Vec<String>,
}

/// Whether the target can be filled from this source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is to be filled, perhaps after a part of it was.
    Unfinished,
    /// It was filled from this very source before.
    Whole,
}

/// Claims the target for a copy.
pub(crate) async fn begin(catalog: &Catalog, kind: &str, source: &str) -> Result<Begun, Error> {
    catalog.migrate().await?;
    let refuse = |what: String| Err(Error::Refused(what));
    if Copy::read(catalog).await?.is_none() {
        let rows = catalog.fetch_all(&sql::PRISTINE, args![]).await?;
        let used: i64 = rows.first().map(|row| row.get("n")).transpose()?.unwrap_or_default();
        if used > 0 {
            return refuse(
                "the catalog to be filled is not empty; give an empty database, or another data \
                 folder"
                    .to_owned(),
            );
        }
        let now = catalog.now().await?;
        catalog.execute(Priority::Api, &sql::COPY_BEGUN, args![kind, source, now]).await?;
    }
    match Copy::read(catalog).await? {
        Some(copy) if (&*copy.kind, &*copy.source) == (kind, source) => {
            Ok(if copy.ended { Begun::Whole } else { Begun::Unfinished })
        }
        Some(copy) => refuse(format!(
            "the catalog to be filled holds a copy of {} ({}); give an empty database",
            copy.source, copy.kind
        )),
        None => refuse("the catalog to be filled does not keep what is written".to_owned()),
    }
}

/// Fills tables and archive.
pub(crate) async fn fill(source: &mut Source, target: &Target) -> Result<Filled, Error> {
    let mut filled = Filled::default();
    // Objects first: a catalog never refers to what is not there yet.
    if let Some(archive) = &target.archive {
        objects(source, archive, &mut filled).await?;
    }
    let loader = Loader::new(target.catalog.clone()).await?;
    for name in source.tables() {
        let wanted = source.digest(&name).await?;
        if of_target(&target.catalog, &name).await? != wanted {
            table(source, &loader, &name).await?;
            let found = of_target(&target.catalog, &name).await?;
            if found != wanted {
                let what = format!("{} rows instead of {}, or other ones", found.0, wanted.0);
                return Err(Error::Differs { table: name, what });
            }
        }
        tracing::debug!(table = name, rows = wanted.0, "copied");
        filled.tables += 1;
        filled.rows += wanted.0;
    }
    Ok(filled)
}

async fn of_target(catalog: &Catalog, name: &str) -> Result<(u64, String), Error> {
    let mut snapshot = catalog.snapshot().await?;
    let found = snapshot.tables().iter().find(|table| table.name == name).cloned();
    let table = found.ok_or_else(|| {
        Error::Refused(format!(
            "the copy has a table {name} that this version does not know; use the version that \
             made it"
        ))
    })?;
    digest(&mut Rows::Live { snapshot: &mut snapshot, table, last: None }).await
}

async fn table(source: &mut Source, loader: &Loader, name: &str) -> Result<(), Error> {
    loader.clear(name).await?;
    let mut rows = source.rows(name)?;
    let columns = rows.columns();
    loop {
        let page = rows.page().await?;
        if page.is_empty() {
            return Ok(());
        }
        loader.add(name, &columns, page).await?;
    }
}

async fn objects(source: &mut Source, archive: &Archive, filled: &mut Filled) -> Result<(), Error> {
    let (mut walk, reader) = (source.objects()?, source.reader());
    while let Some(some) = source.next(&mut walk).await? {
        let jobs = some.into_iter().map(|wanted| put(&reader, archive, wanted));
        let mut done = stream::iter(jobs).buffered(AT_ONCE);
        while let Some(done) = done.try_next().await? {
            match done {
                Ok(bytes) => {
                    filled.objects += 1;
                    filled.bytes += bytes;
                }
                Err(missing) => filled.missing.push(missing),
            }
        }
    }
    Ok(())
}

/// Copies an object; how long it is, or the name of one that is not there.
async fn put(
    reader: &ObjectReader,
    archive: &Archive,
    wanted: Wanted,
) -> Result<Result<u64, String>, Error> {
    let Some(bytes) = reader.read(&wanted).await? else { return Ok(Err(wanted.name)) };
    let length = bytes.len() as u64;
    match archive.put_new(&wanted.name, bytes.clone()).await {
        Ok(()) => Ok(Ok(length)),
        Err(muster_archive::Error::AlreadyExists(_)) => {
            if archive.get(&wanted.name).await? == bytes {
                return Ok(Ok(length));
            }
            Err(Error::Refused(format!(
                "the archive to be filled has another object {}; give an empty one",
                wanted.name
            )))
        }
        Err(error) => Err(error.into()),
    }
}
