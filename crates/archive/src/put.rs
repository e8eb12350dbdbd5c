//! Creating an object over HTTP, where an answer may be lost.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use crate::Error;

/// How often an object is put in all.
const TRIES: u32 = 3;
/// Before it is put again, times the number of tries so far.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Puts an object once. Its name is never used again, so this may have happened although it failed.
pub(crate) async fn create(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: Bytes,
) -> object_store::Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(path, bytes.into(), options).await.map(drop)
}

/// Puts an object, again when it is not known whether it was put. Names are unique, so one that is there
/// and has these very bytes is ours.
pub(crate) async fn create_surely(
    store: &dyn ObjectStore,
    name: &str,
    bytes: Bytes,
) -> Result<(), Error> {
    let path = Path::from(name);
    for n in 1.. {
        let failed = match create(store, &path, bytes.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let lost = match &failed {
            object_store::Error::AlreadyExists { .. } => match holds(store, &path, &bytes).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(Error::of(name, &failed)),
                // A rival's put that came to nothing (409), or a look that failed.
                Ok(None) | Err(_) => true,
            },
            object_store::Error::Generic { .. } => true,
            _ => false,
        };
        if !lost || n == TRIES {
            return Err(Error::of(name, &failed));
        }
        tokio::time::sleep(BACK_OFF * n).await;
    }
    unreachable!("the last try returns")
}

/// Whether an object has exactly these bytes; `None` when it is not there.
async fn holds(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: &Bytes,
) -> object_store::Result<Option<bool>> {
    match store.head(path).await {
        Ok(meta) if meta.size == bytes.len() as u64 => {}
        Ok(_) => return Ok(Some(false)),
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    let got = store.get_opts(path, GetOptions::default()).await?;
    Ok(Some(got.bytes().await? == *bytes))
}
