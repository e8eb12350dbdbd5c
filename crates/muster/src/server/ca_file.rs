//! `ca.pem` in the data folder: the CAs that agents and people trust, for whoever hands them out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_authority::Authorities;
use tokio::sync::watch;

use super::identity;

/// Writes the file; everybody may read it, certificates are no secret.
///
/// # Errors
/// When the data folder cannot be written.
pub fn write(data_dir: &Path, pem: &str) -> anyhow::Result<()> {
    identity::write_public(&data_dir.join("ca.pem"), pem.as_bytes())
}

/// The same for a server that can do without the file.
pub fn try_write(data_dir: &Path, pem: &str) {
    if let Err(error) = write(data_dir, pem) {
        tracing::warn!("ca.pem is not what is trusted: {error:#}");
    }
}

/// Writes it again whenever the CAs change.
pub async fn follow(data_dir: PathBuf, mut cas: watch::Receiver<Arc<Authorities>>) {
    while cas.changed().await.is_ok() {
        let pem = cas.borrow_and_update().trusted_pem();
        try_write(&data_dir, &pem);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn everybody_may_read_it_and_a_folder_that_is_not_there_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "old").unwrap();
        write(dir.path(), "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        try_write(&dir.path().join("missing"), "new");
    }
}
