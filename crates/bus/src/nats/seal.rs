//! What makes a hint credible: a MAC by a key that only the instances of an installation have.
//!
//! Whoever reaches the NATS servers may publish there; the content of a hint is acted on, so it has to
//! come from an instance. The MAC covers the subject too: what was said about one thing is nothing about
//! another. It does not keep an old hint from being sent again, which is like one that comes twice.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use bytes::{BufMut, Bytes, BytesMut};

/// The first byte of every message. Messages of version 1 had no MAC.
const VERSION: u8 = 2;
const TAG_BYTES: usize = 32;
/// Where the content begins.
const HEAD_BYTES: usize = 1 + TAG_BYTES;

/// What all instances of an installation seal their hints with. Never printed.
#[derive(Clone)]
pub struct HintKey(hmac::Key);

impl std::fmt::Debug for HintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HintKey(…)")
    }
}

impl HintKey {
    /// A key from a secret of the installation that is used for nothing else.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, secret))
    }

    /// The message that carries this content on this subject. No content needs no MAC: whatever is not
    /// believed says as much.
    pub(super) fn seal(&self, subject: &str, content: &Bytes) -> Bytes {
        if content.is_empty() {
            return Bytes::from_static(&[VERSION]);
        }
        let mut out = BytesMut::with_capacity(HEAD_BYTES + content.len());
        out.put_u8(VERSION);
        out.put_slice(self.tag(subject, content).as_ref());
        out.put_slice(content);
        out.freeze()
    }

    /// The content; `None` when no instance of this version sealed it for this subject.
    pub(super) fn open(&self, subject: &str, message: &Bytes) -> Option<Bytes> {
        if message[..] == [VERSION] {
            return Some(Bytes::new());
        }
        if message.first() != Some(&VERSION) || message.len() < HEAD_BYTES {
            return None;
        }
        let content = message.slice(HEAD_BYTES..);
        let tag = self.tag(subject, &content);
        let agrees = verify_slices_are_equal(tag.as_ref(), &message[1..HEAD_BYTES]);
        agrees.ok().map(|()| content)
    }

    fn tag(&self, subject: &str, content: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.0);
        // Its length first, so that nothing can move from the subject into the content.
        mac.update(&(subject.len() as u64).to_be_bytes());
        mac.update(subject.as_bytes());
        mac.update(content);
        mac.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "muster.b.t.hunts";

    #[test]
    fn content_comes_back_to_who_has_the_key() {
        let (key, content) = (HintKey::new(&[7; 32]), Bytes::from_static(b"news"));
        for content in [content, Bytes::new()] {
            let sealed = key.seal(SUBJECT, &content);
            assert_eq!(HintKey::new(&[7; 32]).open(SUBJECT, &sealed), Some(content));
        }
    }

    #[test]
    fn nothing_else_is_believed() {
        let (key, content) = (HintKey::new(&[7; 32]), Bytes::from_static(b"news"));
        let sealed = key.seal(SUBJECT, &content);
        for at in 0..sealed.len() {
            let mut other = sealed.to_vec();
            other[at] ^= 1;
            assert_eq!(key.open(SUBJECT, &other.into()), None, "byte {at}");
            // Cut short; the first byte alone is an empty hint.
            let short = key.open(SUBJECT, &sealed.slice(..at)).unwrap_or_default();
            assert_eq!(short, Bytes::new(), "{at} bytes");
        }
        assert_eq!(key.open("muster.b.t.live.7", &sealed), None);
        assert_eq!(HintKey::new(&[8; 32]).open(SUBJECT, &sealed), None);
        // As version 1 was, and a later one may be.
        assert_eq!(key.open(SUBJECT, &Bytes::from_static(b"\x01news")), None);
        assert_eq!(key.open(SUBJECT, &[&[3], &sealed[1..]].concat().into()), None);
    }
}
