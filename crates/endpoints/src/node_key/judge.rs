//! The rules by which a genuine node key is taken or not. Pure.

use std::time::Duration;

use muster_types::{OrgId, Timestamp};

use super::NodeKey;
use crate::AgentState;
use crate::presence::seconds;

/// How long a key is good after a newer one was issued, and how long a new agent may be unknown here.
///
/// Two threads of one osqueryd may hold the old key when it is refused: each throws away the current
/// one and enrols. The grace ends that.
pub const GRACE: Duration = Duration::from_secs(60);

/// What is known of the agent that a key names.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its organisation.
    pub org: OrgId,
    /// Whether it may talk to us.
    pub state: AgentState,
    /// When its newest key was issued.
    pub issued_at: Timestamp,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The key is known to be bad: the agent shall enrol again.
    #[error("the node key is not valid")]
    Invalid,
    /// A person shut the agent out: it keeps its key and its data.
    #[error("an administrator blocked this agent")]
    Blocked,
    /// Nothing certain is known now: the agent shall come again as it is.
    #[error("the server cannot tell now whether the node key is valid")]
    Unsure,
}

/// Judges a key by what is known of its agent. `fresh` says whether the directory follows its feed:
/// while it does not, no agent is told to enrol again.
///
/// # Errors
/// [`Rejected`].
pub fn judge(
    key: &NodeKey,
    known: Option<Known>,
    now: Timestamp,
    fresh: impl Fn() -> bool,
) -> Result<(), Rejected> {
    let bad = || if fresh() { Rejected::Invalid } else { Rejected::Unsure };
    let (now, grace) = (seconds(now), GRACE.as_secs() as u32);
    let Some(known) = known else {
        // It may have enrolled at another instance a moment ago.
        return if now < key.issued_at.saturating_add(grace) { Ok(()) } else { Err(bad()) };
    };
    let newest = seconds(known.issued_at);
    match known.state {
        AgentState::Retired => Err(bad()),
        _ if known.org != key.org => Err(bad()),
        AgentState::Blocked => Err(Rejected::Blocked),
        // A newer one than is known here was issued by another instance.
        AgentState::Active if key.issued_at >= newest => Ok(()),
        AgentState::Active if now < newest.saturating_add(grace) => Ok(()),
        AgentState::Active => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use muster_types::AgentNo;

    use super::*;

    const T: u32 = 1_800_000_000;

    fn at(seconds: u32) -> Timestamp {
        Timestamp(i64::from(seconds) * 1_000_000)
    }

    fn key(issued_at: u32) -> NodeKey {
        NodeKey { org: OrgId(1), agent: AgentNo(5), issued_at, with_certificate: false }
    }

    fn known(state: AgentState, issued_at: u32) -> Option<Known> {
        Some(Known { org: OrgId(1), state, issued_at: at(issued_at) })
    }

    #[test]
    fn the_current_key_is_taken_however_old_also_while_nothing_is_fresh() {
        let current = known(AgentState::Active, T);
        assert_eq!(judge(&key(T), current, at(T + 100_000_000), || false), Ok(()));
    }

    #[test]
    fn a_newer_key_than_known_is_taken() {
        let older = known(AgentState::Active, T - 500);
        assert_eq!(judge(&key(T), older, at(T + 1), || true), Ok(()));
    }

    #[test]
    fn a_replaced_key_has_a_minute() {
        let newer = known(AgentState::Active, T);
        assert_eq!(judge(&key(T - 500), newer, at(T + 59), || true), Ok(()));
        assert_eq!(judge(&key(T - 500), newer, at(T + 60), || true), Err(Rejected::Invalid));
    }

    #[test]
    fn an_unknown_agent_has_a_minute_from_issue() {
        assert_eq!(judge(&key(T), None, at(T + 59), || true), Ok(()));
        assert_eq!(judge(&key(T), None, at(T + 60), || true), Err(Rejected::Invalid));
    }

    #[test]
    fn a_deleted_agent_is_invalid_at_once() {
        let deleted = known(AgentState::Retired, T);
        assert_eq!(judge(&key(T), deleted, at(T), || true), Err(Rejected::Invalid));
    }

    #[test]
    fn a_blocked_agent_keeps_its_key() {
        let blocked = known(AgentState::Blocked, T);
        assert_eq!(judge(&key(T), blocked, at(T), || true), Err(Rejected::Blocked));
    }

    #[test]
    fn nobody_is_told_to_enrol_while_the_directory_is_not_fresh() {
        let cases = [None, known(AgentState::Retired, T), known(AgentState::Active, T + 1)];
        for known in cases {
            assert_eq!(judge(&key(T), known, at(T + 1_000), || false), Err(Rejected::Unsure));
        }
    }

    #[test]
    fn a_key_of_another_organisation_is_invalid() {
        let elsewhere = Known { org: OrgId(2), state: AgentState::Active, issued_at: at(T) };
        assert_eq!(judge(&key(T), Some(elsewhere), at(T), || true), Err(Rejected::Invalid));
    }
}
