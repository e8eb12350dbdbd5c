//! Answers packed with gzip, for agents that say they take it (from 5.21, by a flag).

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;

/// Smaller answers are not worth it.
const PACKED_FROM: usize = 2 << 10;
/// Documents kept packed; when there are more, all are packed anew.
const KEPT_MAX: usize = 64;

/// Which document, and with its etag or without.
pub(crate) type Name = (Box<str>, bool);

/// Packed documents: a configuration is packed once, not per request.
#[derive(Debug, Default)]
pub(crate) struct Packed(Mutex<HashMap<Name, Bytes>>);

impl Packed {
    /// Whether packing is worth it.
    pub(crate) fn is_worth_it(body: &Bytes) -> bool {
        body.len() >= PACKED_FROM
    }

    pub(crate) fn get(&self, name: &Name) -> Option<Bytes> {
        self.0.lock().get(name).cloned()
    }

    /// Packs a document and keeps it. Takes milliseconds for a large one.
    pub(crate) fn pack(&self, name: Name, body: &[u8]) -> std::io::Result<Bytes> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(body)?;
        let packed = Bytes::from(packer.finish()?);
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(name, packed.clone());
        Ok(packed)
    }
}
