//! Answers packed with gzip, for agents that say they take it (from 5.21, by a flag).

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use muster_gateway::http::Answer;
use parking_lot::Mutex;

/// Smaller answers are not worth it.
const PACKED_FROM: usize = 2 << 10;
/// Larger ones are packed on a thread of their own: smaller ones take well below a millisecond.
const ASIDE_FROM: usize = 32 << 10;
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
        let packed = gzip(body, Compression::default())?;
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(name, packed.clone());
        Ok(packed)
    }
}

/// An answer of one agent's own, packed if it is worth it. What cannot be packed goes as it is: packing is a
/// favour.
pub(crate) async fn packed(answer: Answer) -> Answer {
    if !Packed::is_worth_it(&answer.body) {
        return answer;
    }
    let body = answer.body.clone();
    let pack = move || gzip(&body, Compression::fast()).ok();
    let packed = match answer.body.len() {
        ..ASIDE_FROM => pack(),
        _ => tokio::task::spawn_blocking(pack).await.ok().flatten(),
    };
    match packed {
        Some(body) => Answer { body, is_gzip: true, ..answer },
        None => answer,
    }
}

fn gzip(body: &[u8], level: Compression) -> std::io::Result<Bytes> {
    let mut packer = GzEncoder::new(Vec::with_capacity(body.len() / 4), level);
    packer.write_all(body)?;
    packer.finish().map(Bytes::from)
}
