//! Bounds and times of uploads.

use std::time::Duration;

/// Bounds and times.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest upload that is begun, in bytes.
    pub upload_bytes_max: u64,
    /// Uploads of one agent that may be open; agents send one at a time.
    pub open_max: u32,
    /// An upload of which no block came for so long is given up.
    pub open_for: Duration,
    /// One that is not whole after this is given up in any case: the blocks of all are kept meanwhile.
    pub open_at_most: Duration,
    /// How long it is remembered whether an upload is open; at most so long blocks of one that is not are taken.
    pub standing_for: Duration,
    /// How long uploads are kept.
    pub keep_for: Duration,
    /// Bytes of each object an upload is stored in, but the last.
    pub piece_bytes: usize,
    /// Bytes of blocks held back while those before them are looked for.
    pub held_bytes_max: usize,
    /// Pause between rounds.
    pub every: Duration,
    /// How long objects stay that nothing refers to any more.
    pub retire_grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            upload_bytes_max: 4 << 30,
            open_max: 16,
            open_for: Duration::from_secs(24 * 60 * 60),
            open_at_most: Duration::from_secs(7 * 24 * 60 * 60),
            standing_for: Duration::from_secs(30),
            keep_for: Duration::from_secs(365 * 24 * 60 * 60),
            piece_bytes: 32 << 20,
            held_bytes_max: 64 << 20,
            every: Duration::from_secs(1),
            retire_grace: Duration::from_secs(30 * 60),
        }
    }
}
