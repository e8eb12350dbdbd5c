//! Files on their way into a debug archive.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use muster_types::Timestamp;

/// Longest file; what is over is cut off, and the file says so.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// Longest part before compression; files for which there is no room are left out, and named.
pub const PART_BYTES_MAX: usize = 32 << 20;

/// A folder that is filled.
pub struct Bundle {
    tar: tar::Builder<Vec<u8>>,
    folder: String,
    mtime: u64,
    left_out: Vec<String>,
}

impl Bundle {
    /// An empty folder of this name, as of this time.
    #[must_use]
    pub fn new(folder: &str, at: Timestamp) -> Self {
        let mtime = u64::try_from(at.seconds()).unwrap_or(0);
        let tar = tar::Builder::new(Vec::new());
        Self { tar, folder: folder.to_owned(), mtime, left_out: Vec::new() }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When its name is none.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let kept = &bytes[..bytes.len().min(FILE_BYTES_MAX)];
        if self.tar.get_ref().len() + kept.len() > PART_BYTES_MAX {
            self.left_out.push(format!("{name}: no room for {} bytes", bytes.len()));
            return Ok(());
        }
        if kept.len() < bytes.len() {
            let cut = format!("{name}: only the first {} of {} bytes", kept.len(), bytes.len());
            self.left_out.push(cut);
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(kept.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.mtime);
        self.tar.append_data(&mut header, format!("{}/{name}", self.folder), kept)
    }

    /// One gzip member with all files and no end: others follow.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(mut self) -> std::io::Result<Bytes> {
        if !self.left_out.is_empty() {
            let text = self.left_out.join("\n") + "\n";
            self.left_out.clear();
            self.add("left-out.txt", text.as_bytes())?;
        }
        // The builder would write an end when it is taken apart.
        member(self.tar.get_ref())
    }
}

/// The last gzip member of an archive: the end of a tar file.
pub(super) fn end() -> std::io::Result<Bytes> {
    member(&[0; 1024])
}

fn member(bytes: &[u8]) -> std::io::Result<Bytes> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::default());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?.into())
}

/// A name for a folder: letters, digits, `-` and `.` of this one.
pub(super) fn folder_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let name: String = name.chars().take(64).map(safe).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn members_in_a_row_are_one_archive() {
        let mut whole = Vec::new();
        for part in ["a", "b"] {
            let mut bundle = Bundle::new(part, Timestamp(0));
            bundle.add("x.txt", part.as_bytes()).unwrap();
            bundle.add("big", &vec![7; FILE_BYTES_MAX + 1]).unwrap();
            whole.extend_from_slice(&bundle.finish().unwrap());
        }
        whole.extend_from_slice(&end().unwrap());
        let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(&*whole));
        let mut names = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            names.push((entry.path().unwrap().display().to_string(), text.len()));
        }
        let lengths: Vec<_> = names.iter().map(|(name, length)| (name.as_str(), *length)).collect();
        assert_eq!(lengths[0], ("a/x.txt", 1));
        assert_eq!(lengths[1], ("a/big", FILE_BYTES_MAX));
        assert_eq!(lengths[3], ("b/x.txt", 1));
        assert_eq!(lengths.len(), 6);
    }

    #[test]
    fn folders_stay_where_they_are() {
        assert_eq!(folder_name("../x y/ä"), "_x_y__");
    }
}
