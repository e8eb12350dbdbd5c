//! Whether the archive does what is asked of it, shown by doing it.

use muster_archive::{Archive, Error};

use super::{Finding, id};

/// Creates an object twice and removes it.
pub(super) async fn check(archive: &Archive) -> Option<Finding> {
    match archive.probe().await {
        Ok(()) => None,
        Err(Error::Unfit(what)) => Some(Finding::new(
            id::ARCHIVE_CREATE,
            format!("the archive does not keep objects as they are: {what}"),
            "use a store that honours `If-None-Match: *` on PUT, with no gateway before it that drops \
             the header; until then a late writer may damage data",
        )),
        Err(error) => Some(Finding::new(
            id::ARCHIVE_WRITE,
            format!("the archive cannot be written: {error}"),
            "check archive.url, its credentials, and the free space and owner of the folder or bucket",
        )),
    }
}
