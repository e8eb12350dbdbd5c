//! Taking a backup.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use muster_archive::{Archive, Pause, day_name};
use muster_catalog::copy::{Snapshot, Table};
use muster_catalog::{Catalog, Row, Value, args};
use muster_types::Timestamp;
use uuid::Uuid;

use crate::error::at;
use crate::folder::{self, Folder};
use crate::manifest::{FORMAT, Manifest, Objects, TableEntry, VERSION};
use crate::object_list::{ListReader, ListWriter};
use crate::objects::{self, Kept};
use crate::references::Walk;
use crate::table_file::TableWriter;
use crate::{Error, statements as sql};

/// Objects copied at once, each with 8 MiB in memory at most.
const AT_ONCE: usize = 4;
const MISSING_NAMED: usize = 100;

/// Tables that are about this very store and its processes.
pub(crate) const LEFT_OUT: [&str; 4] =
    ["instance", "schema_migration", "segment_hold", "store_copy"];

/// How a backup is taken.
#[derive(Clone, Debug)]
pub struct TakeOptions {
    /// The version of the program.
    pub program: String,
    /// The file with the key that opens the installation's secrets, to be put into the backup.
    pub secret_key: Option<PathBuf>,
}

/// Takes one, while others work on these stores. The catalog only has to be open for single statements
/// ([`Catalog::open_beside`]).
///
/// Dropped half way it leaves a partial backup, which the next one removes, and a pause of deletions
/// that ends by itself.
///
/// # Errors
/// When the folder cannot be used, or one of the stores fails. There is no backup then.
pub async fn take(
    catalog: &Catalog,
    archive: &Archive,
    dir: &Path,
    options: &TakeOptions,
) -> Result<Manifest, Error> {
    let folder = Folder::open(dir)?;
    // First the pause: whatever the snapshot refers to is there until it ends.
    let pause = Pause::begin(catalog.clone(), "backup").await?;
    let taking = Box::pin(Taking { catalog, archive, folder: &folder, options }.run());
    let taken = Box::pin(pause.during(taking)).await;
    if let Err(error) = pause.end().await {
        tracing::warn!(%error, "the pause of deletions ends by itself in ten minutes");
    }
    taken?
}

struct Taking<'a> {
    catalog: &'a Catalog,
    archive: &'a Archive,
    folder: &'a Folder,
    options: &'a TakeOptions,
}

impl Taking<'_> {
    async fn run(self) -> Result<Manifest, Error> {
        let taken_at = self.catalog.now().await?;
        let mut snapshot = self.catalog.snapshot().await?;
        let id = format!("{}-{}", day_name(taken_at.day()), Uuid::now_v7().simple());
        let partial = self.folder.begin(&id)?;
        let mut manifest = self.head(&mut snapshot, id, taken_at).await?;
        for table in snapshot.tables().to_vec() {
            if !LEFT_OUT.contains(&&*table.name) {
                manifest.tables.push(write(&mut snapshot, &table, &partial).await?);
            }
        }
        manifest.objects = self.objects(&mut snapshot, &partial).await?;
        if let Some(key) = &self.options.secret_key {
            let bytes = std::fs::read(key).map_err(at(key))?;
            folder::write_new(&partial.join("secret.key"), &bytes)?;
        }
        self.folder.end(&partial, &manifest)?;
        Ok(manifest)
    }

    async fn head(
        &self,
        snapshot: &mut Snapshot,
        id: String,
        taken_at: Timestamp,
    ) -> Result<Manifest, Error> {
        let mut shards = Vec::new();
        for row in snapshot.fetch(&sql::SHARDS, args![]).await? {
            shards.push((row.get("shard")?, row.get("pos")?));
        }
        Ok(Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            id,
            taken_at: taken_at.0,
            program: self.options.program.clone(),
            migration: migration(snapshot).await?,
            database: self.catalog.database().name().to_owned(),
            cluster: cluster(snapshot).await?,
            tables: Vec::new(),
            objects: Objects::default(),
            shards,
            secret_key: self.options.secret_key.is_some(),
        })
    }

    async fn objects(&self, snapshot: &mut Snapshot, partial: &Path) -> Result<Objects, Error> {
        let before = folder::backups(self.folder.dir())?.pop();
        let mut before = match before {
            Some(before) => {
                let backup = self.folder.dir().join("backups").join(before.id);
                Some(ListReader::open(&backup.join("objects.jsonl.zst"))?)
            }
            None => None,
        };
        let mut list = ListWriter::create(partial.join("objects.jsonl.zst"))?;
        let (mut all, mut walk) = (Objects::default(), Walk::new());
        let files = self.folder.dir().join("objects");
        while let Some(references) = walk.next(snapshot).await? {
            let mut jobs = Vec::with_capacity(references.len());
            for reference in references {
                let known = match &mut before {
                    Some(before) => before.find(&reference.name)?,
                    None => None,
                };
                jobs.push(objects::keep(self.archive, &files, reference, known));
            }
            let mut kept = stream::iter(jobs).buffered(AT_ONCE);
            while let Some(kept) = kept.try_next().await? {
                match kept {
                    Kept::Here { listed, copied } => {
                        all.count += 1;
                        all.bytes += listed.bytes;
                        all.copied += u64::from(copied);
                        list.add(&listed)?;
                    }
                    Kept::Missing(name) => {
                        tracing::error!(object = name, "the archive does not have this object");
                        all.missing_count += 1;
                        if all.missing.len() < MISSING_NAMED {
                            all.missing.push(name);
                        }
                    }
                }
            }
        }
        all.sha256 = list.finish()?;
        Ok(all)
    }
}

/// The installation, as text.
pub(crate) async fn cluster(snapshot: &mut Snapshot) -> Result<String, Error> {
    let rows = snapshot.fetch(&sql::CLUSTER, args![]).await?;
    let row =
        rows.first().ok_or_else(|| Error::Refused("the catalog has no install row".into()))?;
    Ok(row.get::<Uuid>("cluster")?.to_string())
}

/// The newest migration.
pub(crate) async fn migration(snapshot: &mut Snapshot) -> Result<String, Error> {
    let rows = snapshot.fetch(&sql::MIGRATION, args![]).await?;
    let row = rows.first().ok_or_else(|| Error::Refused("the catalog is empty".to_owned()))?;
    Ok(row.get("name")?)
}

/// The values of a row, by the names of its columns.
pub(crate) fn values(table: &Table, mut row: Row) -> Result<Vec<Value>, Error> {
    let take = |column: &muster_catalog::copy::Column| row.take::<Value>(&column.name);
    Ok(table.columns.iter().map(take).collect::<Result<_, _>>()?)
}

async fn write(snapshot: &mut Snapshot, table: &Table, to: &Path) -> Result<TableEntry, Error> {
    let path = to.join("catalog").join(format!("{}.jsonl.zst", table.name));
    let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    let mut file = TableWriter::create(path, &table.name, &columns)?;
    let mut last: Option<Row> = None;
    loop {
        let mut page = snapshot.page(table, last.as_ref()).await?;
        let Some(row) = page.pop() else { break };
        for row in page {
            file.row(&values(table, row)?)?;
        }
        file.row(&values(table, row.clone())?)?;
        last = Some(row);
    }
    let (rows, sha256) = file.finish()?;
    Ok(TableEntry { name: table.name.clone(), rows, sha256 })
}
