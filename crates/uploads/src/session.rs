//! Sessions: what proves whose upload a block belongs to.
//!
//! Blocks carry no node key before osquery 5.23, so the session is the proof. It is made and checked
//! from memory, by any instance: everything it says is in it, under a MAC.
//!
//! ```text
//! version u8 (1) | org u16 | agent u32 | upload u64 | block count u32 | block size u32 | MAC (16)
//! ```
//!
//! The MAC is the first half of HMAC-SHA256; the text is base64url without padding.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut};
use muster_types::{AgentNo, OrgId, UploadNo};

const VERSION: u8 = 1;
const SAID_BYTES: usize = 23;
const MAC_BYTES: usize = 16;

/// Whose blocks, of which upload, how many and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The agent's organisation.
    pub org: OrgId,
    /// The agent.
    pub agent: AgentNo,
    /// The upload.
    pub upload: UploadNo,
    /// How many blocks it has.
    pub block_count: u32,
    /// Bytes of each but the last.
    pub block_size: u32,
}

impl Session {
    /// Whether a block of this number and length may belong to the upload.
    #[must_use]
    pub fn admits(&self, index: u32, bytes: usize) -> bool {
        index < self.block_count && bytes <= self.block_size as usize
    }
}

/// Makes and checks sessions.
#[derive(Clone, Debug)]
pub struct Sessions(hmac::Key);

impl Sessions {
    /// Under a secret of the installation.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The text of a session.
    #[must_use]
    pub fn issue(&self, session: &Session) -> String {
        let mut token = Vec::with_capacity(SAID_BYTES + MAC_BYTES);
        token.put_u8(VERSION);
        token.put_u16(session.org.0);
        token.put_u32(session.agent.0);
        token.put_u64(session.upload.0);
        token.put_u32(session.block_count);
        token.put_u32(session.block_size);
        let mac = hmac::sign(&self.0, &token);
        token.extend_from_slice(&mac.as_ref()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The session of a text; `None` when it is none of ours.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<Session> {
        // Longer texts are not worth decoding.
        if text.len() > 2 * (SAID_BYTES + MAC_BYTES) {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (mut said, mac) = token.split_at_checked(SAID_BYTES)?;
        let wanted = hmac::sign(&self.0, said);
        verify_slices_are_equal(wanted.as_ref().get(..MAC_BYTES)?, mac).ok()?;
        (said.get_u8() == VERSION).then(|| Session {
            org: OrgId(said.get_u16()),
            agent: AgentNo(said.get_u32()),
            upload: UploadNo(said.get_u64()),
            block_count: said.get_u32(),
            block_size: said.get_u32(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Session = Session {
        org: OrgId(1),
        agent: AgentNo(70_000),
        upload: UploadNo(9),
        block_count: 3,
        block_size: 8192,
    };

    #[test]
    fn a_session_opens_with_its_secret_only() {
        let text = Sessions::new(b"a").issue(&SESSION);
        assert_eq!(Sessions::new(b"a").open(&text), Some(SESSION));
        assert_eq!(Sessions::new(b"b").open(&text), None);
    }

    #[test]
    fn no_changed_session_opens() {
        let sessions = Sessions::new(b"a");
        let text = sessions.issue(&SESSION);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sessions.open(std::str::from_utf8(&changed).unwrap()), None, "{at}");
        }
        for text in ["", "AQ", &text[..50], &text.repeat(2), &"A".repeat(10_000), "é"] {
            assert_eq!(sessions.open(text), None);
        }
    }

    #[test]
    fn blocks_stay_within_what_was_begun() {
        assert!(SESSION.admits(2, 8192));
        assert!(!SESSION.admits(3, 1));
        assert!(!SESSION.admits(0, 8193));
    }
}
