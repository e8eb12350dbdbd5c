//! The few things the log asks of a disk, behind a trait so that tests can let them fail.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Where the log keeps its files.
pub(super) trait Disk: Send + Sync {
    /// Makes sure that the first `len` bytes of the file have their place on the disk.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()>;

    /// Writes all of `parts`, back to back, at `offset`.
    fn write_at(&self, file: &File, parts: &[Bytes], offset: u64) -> io::Result<()>;

    /// Waits until what was written is on the medium (fdatasync).
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Bytes that we may still use on the volume of `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// The machine's.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => allocate_by_writing(file, len),
            result => Ok(result?),
        }
    }

    fn write_at(&self, file: &File, parts: &[Bytes], mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut slices = &mut slices[..];
        // Drops leading empty parts, so that a write of 0 bytes means trouble.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let written = match rustix::io::pwritev(file, slices, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(dir)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }
}

/// For volumes that know no fallocate (some network file systems): zeros after the present end.
fn allocate_by_writing(file: &File, len: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = file.metadata()?.len();
    while at < len {
        let step = (len - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

/// Whether there was no room, as opposed to a disk that failed.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes created, renamed and removed names of a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
