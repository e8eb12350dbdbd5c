//! What this instance keeps about itself in its data folder: its id and the key that seals secrets.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use muster_types::InstanceId;
use uuid::Uuid;

/// Makes the data folder, for its owner only.
///
/// # Errors
/// When it cannot be made or written, with what to do.
pub fn prepare_data_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
        format!("cannot create the data folder {}; set another with --data", dir.display())
    })?;
    let probe = dir.join(".writable");
    std::fs::write(&probe, b"").with_context(|| {
        format!("cannot write to the data folder {}; set another with --data", dir.display())
    })?;
    let _ = std::fs::remove_file(probe);
    Ok(())
}

/// The id of the instance that owns this folder; made on first use.
pub fn instance_id(dir: &Path) -> anyhow::Result<InstanceId> {
    let path = dir.join("instance-id");
    let text = read_or_create(&path, || format!("{}\n", Uuid::now_v7()).into_bytes())?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let id = text.parse().with_context(|| format!("{} holds no instance id", path.display()))?;
    Ok(InstanceId(id))
}

/// Reads a small private file, or creates it whole and durable with mode 0600.
fn read_or_create(path: &Path, make: impl FnOnce() -> Vec<u8>) -> anyhow::Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => return Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    }
    let bytes = make();
    write_private(path, &bytes)?;
    Ok(bytes)
}

/// Writes a file that only its owner may read: whole, durable, or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(path, bytes, 0o600)
}

/// The same for one that everybody may read, whatever the umask.
pub fn write_public(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}
