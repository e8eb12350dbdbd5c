//! How a log is opened, and why it may not be.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What is called, once, when the log broke for good; the process is expected to end.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How to open a [`Log`](super::Log).
#[derive(Clone)]
pub struct LogOptions {
    /// The folder of its files; made when missing. One process at a time.
    pub dir: PathBuf,
    /// Length of a segment file. Capped at an eighth of the quota, as whole files are freed.
    pub segment_bytes: u64,
    /// Bytes of records it may keep.
    pub quota_bytes: u64,
    /// Below this much free disk only life-cycle facts are taken.
    pub reserve_bytes: u64,
    /// Called when a write or an fdatasync failed.
    pub on_fatal: OnFatal,
}

impl LogOptions {
    /// Segments of 64 MiB and a reserve of 1 GiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, quota_bytes: u64, on_fatal: OnFatal) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            quota_bytes,
            reserve_bytes: 1 << 30,
            on_fatal,
        }
    }

    /// The segment length in use.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.quota_bytes / 8).max(64 << 10)
    }
}

impl std::fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogOptions")
            .field("dir", &self.dir)
            .field("segment_bytes", &self.segment_bytes)
            .field("quota_bytes", &self.quota_bytes)
            .field("reserve_bytes", &self.reserve_bytes)
            .finish_non_exhaustive()
    }
}

/// What to do with records that were durable and cannot be read any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorrupt {
    /// Say so and stop. The default: nothing is skipped silently.
    #[default]
    Refuse,
    /// Log what is lost, count it, and go on behind it.
    Skip,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by {holder}; stop it, or give this one another data folder", dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Who, as far as is known.
        holder: String,
    },
    /// Records that were durable are damaged.
    #[error(
        "{} is damaged at offset {offset} ({what}): restore the file from a copy, or skip what \
         cannot be read by opening the log once with skip-corrupt (those records are lost)",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The folder or a file in it cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
