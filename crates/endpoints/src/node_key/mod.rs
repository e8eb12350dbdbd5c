//! Node keys: what an agent that polls shows with every request.
//!
//! A key verifies itself: it names organisation, agent and time of issue, and carries a MAC by a key
//! of the installation. So a check-in needs no look-up in the catalog; what was revoked or replaced
//! is known from the [`Directory`](crate::Directory) in memory. Times of issue rise strictly for one
//! agent. A counter in their place would be handed out twice after a restore from a backup, and two
//! machines would hold good keys of one number for ever; of two times the older one is replaced.

mod judge;
mod keys;
mod ring;
mod stored;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_types::{AgentNo, Format, OrgId};

pub use judge::{GRACE, Known, Rejected, judge};
pub use keys::{Node, NodeKeys};
pub use ring::{Checked, KeyRing};
pub use stored::{KeyInfo, list_keys, retire_key, retire_key_in, rotate_keys, rotate_keys_in};

/// What a node key is signed as; other tokens of the same ring are of other purposes.
const PURPOSE: &str = "node key";
const VERSION: u8 = NodeKey::FORMAT.only();
/// In the version byte: good only on a connection with a client certificate.
const CERTIFICATE: u8 = 0x80;
/// Version, organisation, agent, time of issue.
const BODY_BYTES: usize = 1 + 2 + 4 + 4;

/// What a node key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeKey {
    /// Organisation of the agent.
    pub org: OrgId,
    /// Its number.
    pub agent: AgentNo,
    /// When it was issued, in seconds since 1970; rises strictly for one agent.
    pub issued_at: u32,
    /// Whether it is good only together with a client certificate.
    pub with_certificate: bool,
}

impl NodeKey {
    /// Its signed form.
    pub const FORMAT: Format = Format::first("node-key");

    /// The key as the agent gets it: 38 characters of base64url.
    #[must_use]
    pub fn sign(&self, ring: &KeyRing) -> String {
        let mut body = [0; BODY_BYTES];
        body[0] = VERSION | if self.with_certificate { CERTIFICATE } else { 0 };
        body[1..3].copy_from_slice(&self.org.0.to_le_bytes());
        body[3..7].copy_from_slice(&self.agent.0.to_le_bytes());
        body[7..].copy_from_slice(&self.issued_at.to_le_bytes());
        ring.sign(PURPOSE, &body)
    }

    /// Reads a key that this installation signed.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &str, ring: &KeyRing) -> Result<Self, Unread> {
        let mut bytes = [0; ring::OVERHEAD_BYTES + BODY_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| Unread::Foreign)?;
        if length != bytes.len() {
            return Err(Unread::Foreign);
        }
        let body = match ring.check_bytes(PURPOSE, &bytes) {
            Checked::Good(body) => body,
            Checked::Bad => return Err(Unread::Foreign),
            Checked::UnknownKey => return Err(Unread::UnknownKey),
        };
        let [version, o0, o1, a0, a1, a2, a3, issued @ ..] = body else {
            return Err(Unread::Foreign);
        };
        let issued = issued.try_into().map_err(|_| Unread::Foreign)?;
        if version & !CERTIFICATE != VERSION {
            return Err(Unread::Foreign);
        }
        let key = Self {
            org: OrgId(u16::from_le_bytes([*o0, *o1])),
            agent: AgentNo(u32::from_le_bytes([*a0, *a1, *a2, *a3])),
            issued_at: u32::from_le_bytes(issued),
            with_certificate: version & CERTIFICATE != 0,
        };
        // Which of the agents are sent away at one moment depends on nothing they could choose.
        if ring.is_retired_for(bytes[0], key.agent) { Err(Unread::Foreign) } else { Ok(key) }
    }
}

/// Why a text is not a node key of this installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Of another server, damaged, forged, or signed by a key that was retired.
    Foreign,
    /// Signed by a key that is not in the ring as it was last read: another instance may have added
    /// it a moment ago.
    UnknownKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> NodeKey {
        NodeKey {
            org: OrgId(3),
            agent: AgentNo(70_000),
            issued_at: 1_800_000_000,
            with_certificate: false,
        }
    }

    #[test]
    fn a_key_says_whose_it_is_and_since_when() {
        let ring = KeyRing::fixed([7; 32]);
        for key in [key(), NodeKey { with_certificate: true, ..key() }] {
            let text = key.sign(&ring);
            assert_eq!(text.len(), 38, "{text}");
            assert_eq!(NodeKey::read(&text, &ring), Ok(key));
        }
    }

    #[test]
    fn a_key_of_another_server_is_foreign() {
        let ring = KeyRing::fixed([7; 32]);
        let other = key().sign(&KeyRing::fixed([8; 32]));
        for text in [&other, "", "x", "6W9x0yTjGZ0Jz4q8mNbV2cL5kR7tYh1U", "ü", &"A".repeat(500)] {
            assert_eq!(NodeKey::read(text, &ring), Err(Unread::Foreign), "{text}");
        }
    }

    #[test]
    fn every_character_of_a_key_counts() {
        let ring = KeyRing::fixed([7; 32]);
        let text = key().sign(&ring);
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(NodeKey::read(&other, &ring).is_err(), "{at}");
        }
    }

    #[test]
    fn a_token_of_another_purpose_is_no_node_key() {
        let ring = KeyRing::fixed([7; 32]);
        let token = ring.sign("carve", &[VERSION; BODY_BYTES]);
        assert_eq!(NodeKey::read(&token, &ring), Err(Unread::Foreign));
    }
}
