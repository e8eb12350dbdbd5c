//! A body as far as it was kept.

use std::borrow::Cow;
use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;

/// How much of the end of a body over the cap is worth keeping: the node key, the log's type and
/// the statuses of queries stand last.
pub const TAIL_BYTES: usize = 64 << 10;

/// A request's body: whole, or its beginning and its end when it was over the cap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// From its first byte.
    pub head: Bytes,
    /// Its last bytes; empty when `head` is all of it, or the end was not kept.
    pub tail: Bytes,
    /// How long it was, as far as is known.
    pub byte_count: u64,
}

impl Body {
    /// A body of which nothing is missing.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        let byte_count = bytes.len() as u64;
        Self { head: bytes, tail: Bytes::new(), byte_count }
    }

    /// A body of `byte_count` bytes that was cut.
    #[must_use]
    pub fn cut(head: Bytes, tail: Bytes, byte_count: u64) -> Self {
        Self { head, tail, byte_count }
    }

    /// Whether something of it is missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.byte_count > self.head.len() as u64
    }

    /// Unpacks gzip. Keeps `keep` bytes and the end; looks at no more than `guard` bytes. What
    /// is broken counts as cut there.
    #[must_use]
    pub fn unpack(packed: &[u8], keep: usize, guard: u64) -> Self {
        let mut from = GzDecoder::new(packed).take(guard);
        let mut head = Vec::with_capacity(packed.len().saturating_mul(4).min(keep));
        let whole = (&mut from).take(keep as u64).read_to_end(&mut head).is_ok();
        let mut end = End::default();
        let more = whole && head.len() == keep && end.fill(&mut from);
        let mut byte_count = head.len() as u64 + end.byte_count;
        // What follows a break or the guard is not known, but there is something.
        byte_count += u64::from(!whole || (more && from.limit() == 0));
        let tail = if end.byte_count > 0 { end.bytes.freeze() } else { Bytes::new() };
        Self { head: head.into(), tail, byte_count }
    }

    /// The head as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn text(&self) -> Bytes {
        lossy(&self.head)
    }

    /// The members at the end, from the last one of each name on, as objects of their own:
    /// `{"name":…}`. In the order of the names.
    pub(crate) fn ends(&self, names: &[&str]) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.tail);
        let at = |name: &&str| text.rfind(&format!("\"{name}\":"));
        names.iter().filter_map(at).map(|at| format!("{{{}", &text[at..])).collect()
    }
}

/// `bytes` as UTF-8, shared when they are.
#[must_use]
pub(crate) fn lossy(bytes: &Bytes) -> Bytes {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => bytes.clone(),
        Cow::Owned(text) => text.into(),
    }
}

/// The last bytes of something long.
#[derive(Default)]
struct End {
    bytes: BytesMut,
    byte_count: u64,
}

impl End {
    /// Reads to the end; false when that does not come.
    fn fill(&mut self, from: &mut impl Read) -> bool {
        let mut chunk = [0; 16 << 10];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return true,
                Ok(n) => self.push(&chunk[..n]),
                Err(_) => {
                    // The end that is at hand is not the body's end.
                    self.bytes.clear();
                    return false;
                }
            }
        }
    }

    fn push(&mut self, more: &[u8]) {
        self.byte_count += more.len() as u64;
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > 2 * TAIL_BYTES {
            let over = self.bytes.len() - TAIL_BYTES;
            let _ = self.bytes.split_to(over);
        }
    }
}
