//! Tickets for copied agents: good once, for a short time, made and checked without a store.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_types::{AgentNo, Timestamp};
use parking_lot::Mutex;
use rand::RngCore as _;

const VALID: Duration = Duration::from_secs(600);
const CONTEXT: &[u8] = b"muster native rekey ticket 1\0";
/// Agent, expiry, nonce.
const BODY_BYTES: usize = 4 + 8 + 16;
/// Used tickets remembered; beyond it none is taken until some expire.
const USED_MAX: usize = 100_000;

/// Makes and redeems tickets. Instances that share the key take each other's; that a ticket is used
/// once is remembered per instance.
pub(crate) struct Tickets {
    key: hmac::Key,
    used: Mutex<HashMap<[u8; 16], Timestamp>>,
}

impl Tickets {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), used: Mutex::default() }
    }

    /// A ticket for a copy of this agent.
    pub(crate) fn issue(&self, copied: AgentNo, now: Timestamp) -> String {
        let mut ticket = Vec::with_capacity(BODY_BYTES + 32);
        ticket.extend_from_slice(&copied.0.to_le_bytes());
        ticket.extend_from_slice(&now.plus(VALID).0.to_le_bytes());
        let mut nonce = [0; 16];
        rand::rng().fill_bytes(&mut nonce);
        ticket.extend_from_slice(&nonce);
        let tag = hmac::sign(&self.key, &[CONTEXT, &ticket].concat());
        ticket.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(ticket)
    }

    /// The agent that was copied; `None` when the ticket is not ours, too old, or was used.
    ///
    /// A ticket is used up by [`Tickets::spend`], and an enrolment that failed gives it back, so that it can be
    /// tried again.
    pub(crate) fn check(&self, ticket: &str, now: Timestamp) -> Option<(AgentNo, TicketId)> {
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (body, tag) = bytes.split_at_checked(BODY_BYTES)?;
        hmac::verify(&self.key, &[CONTEXT, body].concat(), tag).ok()?;
        let (agent, rest) = body.split_first_chunk::<4>()?;
        let (expires, nonce) = rest.split_first_chunk::<8>()?;
        let expires = Timestamp(i64::from_le_bytes(*expires));
        let id = TicketId { nonce: nonce.try_into().ok()?, expires };
        let fresh = now < expires && !self.used.lock().contains_key(&id.nonce);
        fresh.then(|| (AgentNo(u32::from_le_bytes(*agent)), id))
    }

    /// Uses the ticket up; false when another has just done so.
    pub(crate) fn spend(&self, id: TicketId, now: Timestamp) -> bool {
        let mut used = self.used.lock();
        if used.len() >= USED_MAX {
            used.retain(|_, expires| *expires > now);
        }
        used.len() < USED_MAX && used.insert(id.nonce, id.expires).is_none()
    }

    /// It was for nothing.
    pub(crate) fn give_back(&self, id: TicketId) {
        self.used.lock().remove(&id.nonce);
    }
}

/// One ticket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TicketId {
    nonce: [u8; 16],
    expires: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_for_a_while_and_only_with_its_key() {
        let (tickets, now) = (Tickets::new(&[1; 32]), Timestamp(1_000_000));
        let ticket = tickets.issue(AgentNo(7), now);
        assert!(Tickets::new(&[2; 32]).check(&ticket, now).is_none());
        assert!(tickets.check(&ticket, now.plus(VALID)).is_none());
        assert!(tickets.check(&ticket[1..], now).is_none());
        assert!(tickets.check("", now).is_none());
        let (agent, id) = tickets.check(&ticket, now).unwrap();
        assert_eq!(agent, AgentNo(7));
        assert!(tickets.spend(id, now) && !tickets.spend(id, now));
        assert!(tickets.check(&ticket, now).is_none());
    }
}
