//! One writing process per store: a lock on a file beside it, held for life.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// A process that is just ending gets this long to let go.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// Released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

pub(super) async fn acquire(store: &Path, wait: Duration) -> Result<Lock, Error> {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    let unreadable = |error| Error::Refused(format!("cannot open {}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(unreadable)?;
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(TryLockError::WouldBlock) => return Err(in_use(store, &mut file)),
            Err(TryLockError::Error(error)) => return Err(unreadable(error)),
        }
    }
    // Only for the sentence another process prints; the lock itself is the truth.
    let note =
        file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    if let Err(error) = note {
        tracing::debug!(%error, "the lock file does not name this process");
    }
    Ok(Lock(file))
}

fn in_use(store: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    let read = file.rewind().and_then(|()| file.take(16).read_to_string(&mut holder));
    let by = match read {
        Ok(_) if !holder.is_empty() => format!("process {holder}"),
        _ => "another process".to_owned(),
    };
    Error::Refused(format!(
        "the store {} is in use by {by}; stop it first, or give this one another data folder",
        store.display()
    ))
}
