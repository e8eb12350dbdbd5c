//! Objects: put once, read, list, delete.

use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use muster_types::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::Error;
use crate::name::check;

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
}

impl Archive {
    /// Opens `file:///absolute/folder`, which is created. Every object is on disk, with its folder
    /// entry, before a put returns.
    ///
    /// # Errors
    /// When the URL is of another kind or the folder cannot be made.
    pub fn open(url: &str) -> Result<Self, Error> {
        let Some(folder) = url.strip_prefix("file://").map(FsPath::new).filter(|f| f.is_absolute())
        else {
            return Err(Error::Store(format!("{url:?} is no archive; expected file:///folder")));
        };
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::Store(format!("{}: {error}", folder.display())))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| Error::of(url, &e))?;
        Ok(Self::with_store(Arc::new(store.with_fsync(true))))
    }

    /// Over any store, for simulations.
    #[must_use]
    pub fn with_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Creates an object; durable on `Ok`. Dropped or failed, the object may exist or not.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken, [`Error::Full`] when there is no room.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        check(name)?;
        if bytes.len() as u64 > OBJECT_BYTES_MAX {
            return Err(too_large(name, bytes.len() as u64));
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.store.put_opts(&Path::from(name), bytes.into(), options).await;
        put.map(drop).map_err(|error| Error::of(name, &error))
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`].
    pub async fn get(&self, name: &str) -> Result<Bytes, Error> {
        check(name)?;
        let of = |error| Error::of(name, &error);
        let got = self.store.get_opts(&Path::from(name), GetOptions::default()).await;
        let got = got.map_err(of)?;
        if got.meta.size > OBJECT_BYTES_MAX {
            return Err(too_large(name, got.meta.size));
        }
        got.bytes().await.map_err(of)
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
        let bytes = self.store.get_range(&Path::from(name), range).await;
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
        let pieces = self.store.get_ranges(&Path::from(name), ranges).await;
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
        match self.store.delete(&Path::from(name)).await {
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
        let listed = self.store.list(prefix.as_ref()).take(LISTED_MAX).map_ok(|meta| ObjectInfo {
            name: meta.location.to_string(),
            byte_count: meta.size,
            modified: Timestamp(meta.last_modified.timestamp_micros()),
        });
        listed.try_collect().await.map_err(|error| Error::of(folder, &error))
    }
}

fn too_large(name: &str, byte_count: u64) -> Error {
    Error::TooLarge { name: name.to_owned(), byte_count }
}
