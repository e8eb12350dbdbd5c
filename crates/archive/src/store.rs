//! Objects: put once, read, list, delete.

use std::future::Future;
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use muster_types::{ArchiveAccess, Timestamp};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};

use crate::measured::{ArchiveStats, Measured};
use crate::name::check;
use crate::{Error, put, remote};

/// Longest object that is read or written at once.
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;

/// Most objects one listing returns.
const LISTED_MAX: usize = 1_000_000;

/// One object, as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// Its length.
    pub byte_count: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// The archive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    /// It is behind HTTP: calls are bounded in time, and an answer may be lost.
    remote: bool,
    stats: Arc<ArchiveStats>,
}

impl Archive {
    /// As [`Archive::open_with`], with everything that the URL does not say from the environment.
    ///
    /// # Errors
    /// As [`Archive::open_with`].
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::open_with(url, &ArchiveAccess::default())
    }

    /// Opens `file:///absolute/folder`, which is created, or `s3://bucket/prefix`, `gs://…`, `az://…`,
    /// which are not asked for anything yet. What a put returns for is durable: in a folder with its
    /// entry, elsewhere by the store's own word.
    ///
    /// A folder may be on a network file system and used by several machines: nothing here locks.
    ///
    /// # Errors
    /// When the URL is of another kind, the folder cannot be made, or something is missing.
    pub fn open_with(url: &str, access: &ArchiveAccess) -> Result<Self, Error> {
        if let Some(store) = remote::open(url, access) {
            return Ok(Self::measured(store?, true));
        }
        let Some(folder) = url.strip_prefix("file://").map(FsPath::new).filter(|f| f.is_absolute())
        else {
            return Err(Error::Store(format!(
                "{url:?} is no archive; expected file:///folder or s3://bucket/prefix"
            )));
        };
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::Store(format!("{}: {error}", folder.display())))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| Error::of(url, &e))?;
        Ok(Self::with_store(Arc::new(store.with_fsync(true))))
    }

    /// Over any store, for simulations.
    #[must_use]
    pub fn with_store(store: Arc<dyn ObjectStore>) -> Self {
        Self::measured(store, false)
    }

    fn measured(inner: Arc<dyn ObjectStore>, remote: bool) -> Self {
        let stats = Arc::<ArchiveStats>::default();
        let store = Arc::new(Measured { inner, stats: stats.clone() });
        Self { store, remote, stats }
    }

    /// What was asked of the store so far, by all clones together.
    #[must_use]
    pub fn stats(&self) -> &ArchiveStats {
        &self.stats
    }

    /// Creates an object; durable on `Ok`. Dropped or failed, the object may exist or not.
    ///
    /// One request, never in pieces: only a whole put is conditional everywhere.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::Full`] when there is no room.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        check(name)?;
        let byte_count = bytes.len() as u64;
        if byte_count > OBJECT_BYTES_MAX {
            return Err(too_large(name, byte_count));
        }
        if self.remote {
            let put = put::create_surely(&*self.store, name, bytes);
            return self.bounded(name, byte_count, put).await?;
        }
        let put = put::create(&*self.store, &Path::from(name), bytes).await;
        put.map_err(|error| Error::of(name, &error))
    }

    /// A call that moves so many bytes; over HTTP it ends in bounded time.
    async fn bounded<T>(
        &self,
        name: &str,
        byte_count: u64,
        call: impl Future<Output = T>,
    ) -> Result<T, Error> {
        if !self.remote {
            return Ok(call.await);
        }
        let time = remote::time_for(byte_count);
        tokio::time::timeout(time, call)
            .await
            .map_err(|_| Error::Store(format!("{name}: no answer in {} s", time.as_secs())))
    }

    /// Whether the store keeps what this crate builds on: an object that is there is not written
    /// again. Leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Unfit`] when it overwrites, any other when it cannot be asked.
    pub async fn probe(&self) -> Result<(), Error> {
        let name = format!("probe/v1/{}", uuid::Uuid::now_v7());
        self.put_new(&name, Bytes::from_static(b"first")).await?;
        let again = self.put_new(&name, Bytes::from_static(b"again")).await;
        self.delete(&name).await?;
        match again {
            Err(Error::AlreadyExists(_)) => Ok(()),
            Ok(()) => Err(Error::Unfit(
                "it overwrites objects although it is told to create them (If-None-Match: *)"
                    .to_owned(),
            )),
            Err(error) => Err(error),
        }
    }

    /// The time by the store's clock, as [`ObjectInfo::modified`] is: when an object was put just now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let name = format!("probe/v1/{}", uuid::Uuid::now_v7());
        self.put_new(&name, Bytes::from_static(b"now")).await?;
        let path = Path::from(name.as_str());
        let meta = self.bounded(&name, 0, self.store.head(&path)).await;
        self.delete(&name).await?;
        let meta = meta?.map_err(|error| Error::of(&name, &error))?;
        Ok(Timestamp(meta.last_modified.timestamp_micros()))
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`].
    pub async fn get(&self, name: &str) -> Result<Bytes, Error> {
        check(name)?;
        let of = |error| Error::of(name, &error);
        let path = Path::from(name);
        let got = self.store.get_opts(&path, GetOptions::default());
        let got = self.bounded(name, 0, got).await?.map_err(of)?;
        if got.meta.size > OBJECT_BYTES_MAX {
            return Err(too_large(name, got.meta.size));
        }
        self.bounded(name, got.meta.size, got.bytes()).await?.map_err(of)
    }

    /// The length of an object; `None` when it is not there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        check(name)?;
        let path = Path::from(name);
        match self.bounded(name, 0, self.store.head(&path)).await? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::of(name, &error)),
        }
    }

    /// Reads exactly these bytes of an object.
    ///
    /// # Errors
    /// As [`Archive::get`]; also when the object ends before the range does.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        check(name)?;
        let wanted = range.end.saturating_sub(range.start);
        if wanted > OBJECT_BYTES_MAX {
            return Err(too_large(name, wanted));
        }
        if wanted == 0 {
            return Ok(BytesMut::new().freeze());
        }
        let path = Path::from(name);
        let bytes = self.bounded(name, wanted, self.store.get_range(&path, range)).await?;
        let bytes = bytes.map_err(|error| Error::of(name, &error))?;
        if bytes.len() as u64 != wanted {
            let reason = format!("{} of {wanted} bytes are there", bytes.len());
            return Err(Error::Damaged { object: name.to_owned(), reason });
        }
        Ok(bytes)
    }

    /// Reads several pieces of an object, near ones together.
    ///
    /// # Errors
    /// As [`Archive::get_range`].
    pub async fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        check(name)?;
        let wanted = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        if wanted > OBJECT_BYTES_MAX {
            return Err(too_large(name, wanted));
        }
        let path = Path::from(name);
        let pieces = self.bounded(name, wanted, self.store.get_ranges(&path, ranges)).await?;
        let pieces = pieces.map_err(|error| Error::of(name, &error))?;
        let cut =
            ranges.iter().zip(&pieces).find(|(r, piece)| r.end - r.start != piece.len() as u64);
        if let Some((range, piece)) = cut {
            let reason = format!("{} of {} bytes are there", piece.len(), range.end - range.start);
            return Err(Error::Damaged { object: name.to_owned(), reason });
        }
        Ok(pieces)
    }

    /// Deletes an object. One that is not there is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        check(name)?;
        let path = Path::from(name);
        match self.bounded(name, 0, self.store.delete(&path)).await? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::of(name, &error)),
        }
    }

    /// The objects in a folder and below, in no order. Only for orphans and people: what exists is
    /// said by the manifest. At most a million.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, Error> {
        let folder = folder.trim_end_matches('/');
        if !folder.is_empty() {
            check(folder)?;
        }
        let prefix = (!folder.is_empty()).then(|| Path::from(folder));
        let of = |error| Error::of(folder, &error);
        let mut entries = self.store.list(prefix.as_ref()).take(LISTED_MAX);
        let mut listed = Vec::new();
        // Each page has its time: there may be a thousand.
        while let Some(meta) = self.bounded(folder, 0, entries.try_next()).await?.map_err(of)? {
            listed.push(ObjectInfo {
                name: meta.location.to_string(),
                byte_count: meta.size,
                modified: Timestamp(meta.last_modified.timestamp_micros()),
            });
        }
        Ok(listed)
    }
}

fn too_large(name: &str, byte_count: u64) -> Error {
    Error::TooLarge { name: name.to_owned(), byte_count }
}
