//! When an agent is due: pure arithmetic over what was handed to whom.

use std::sync::atomic::{AtomicU32, Ordering};

use muster_endpoints::Chunked;
use muster_types::AgentNo;

/// How often every agent is asked.
pub(crate) const ROUND_SECONDS: u32 = 3_600;

/// What is known of one agent, in seconds since 1970; zero for never. 12 bytes.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// When this instance last handed it its questions.
    pub(crate) here: AtomicU32,
    /// When another instance did, or this one in a former life.
    pub(crate) elsewhere: AtomicU32,
    /// When somebody last wanted it asked.
    pub(crate) wanted: AtomicU32,
}

impl Slot {
    pub(crate) fn handed(&self) -> u32 {
        self.here.load(Ordering::Relaxed).max(self.elsewhere.load(Ordering::Relaxed))
    }
}

/// Why an agent is asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody ever asked it.
    New,
    /// Its hour is over.
    Round,
    /// Somebody wants to know.
    Wanted,
    /// Policies are newer than its last answers; it is asked only these.
    Policies,
}

/// All agents.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) slots: Chunked<Slot>,
    /// When the question of a policy last changed.
    pub(crate) policies_changed: AtomicU32,
}

impl Rounds {
    /// Why the agent is due, and when it was last asked. Takes no lock and allocates nothing.
    pub(crate) fn due(&self, agent: AgentNo, now: u32) -> Option<(Why, u32)> {
        let Some(slot) = self.slots.get(agent.0) else { return Some((Why::New, 0)) };
        let handed = slot.handed();
        if handed == 0 {
            return Some((Why::New, 0));
        }
        let wanted = slot.wanted.load(Ordering::Relaxed);
        // Equal seconds: the wish may be the later of the two, and asking twice does no harm.
        if wanted > 0 && wanted >= handed {
            return Some((Why::Wanted, handed));
        }
        if handed < turn(agent, now) {
            return Some((Why::Round, handed));
        }
        if handed <= self.policies_changed.load(Ordering::Relaxed) {
            return Some((Why::Policies, handed));
        }
        None
    }

    pub(crate) fn handed(&self, agent: AgentNo, now: u32) {
        if let Some(slot) = self.slots.slot(agent.0) {
            slot.here.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn handed_elsewhere(&self, agent: AgentNo, at: u32) {
        if let Some(slot) = self.slots.slot(agent.0) {
            slot.elsewhere.fetch_max(at, Ordering::Relaxed);
        }
    }

    pub(crate) fn want(&self, agent: AgentNo, at: u32) {
        if let Some(slot) = self.slots.slot(agent.0) {
            slot.wanted.fetch_max(at, Ordering::Relaxed);
        }
    }
}

/// The last moment up to `now` that was this agent's turn. Turns of an agent are an hour apart, those
/// of all agents lie evenly over the hour, and they are the same on every instance and after a restart.
pub(crate) fn turn(agent: AgentNo, now: u32) -> u32 {
    // The golden ratio puts neighbours far apart.
    let spread = u64::from(agent.0.wrapping_mul(0x9E37_79B9));
    let offset = ((spread * u64::from(ROUND_SECONDS)) >> 32) as u32;
    let into = now.wrapping_sub(offset) % ROUND_SECONDS;
    if now < offset { 0 } else { now - into }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_763_640_000;

    #[test]
    fn turns_are_an_hour_apart_and_lie_evenly() {
        let mut minutes = [0u32; 60];
        for no in 1..=60_000 {
            let agent = AgentNo(no);
            let at = turn(agent, NOW);
            assert!(at <= NOW && NOW - at < ROUND_SECONDS);
            assert_eq!(turn(agent, at), at);
            assert_eq!(turn(agent, at - 1), at - ROUND_SECONDS);
            assert_eq!(turn(agent, at + ROUND_SECONDS), at + ROUND_SECONDS);
            minutes[((NOW - at) / 60) as usize] += 1;
        }
        assert!(minutes.iter().all(|n| (990..=1_010).contains(n)), "{minutes:?}");
        assert_eq!(turn(AgentNo(3), 0), 0);
    }

    #[test]
    fn due_once_a_round_and_when_wanted() {
        let (rounds, agent) = (Rounds::default(), AgentNo(77));
        assert_eq!(rounds.due(agent, NOW), Some((Why::New, 0)));
        rounds.handed(agent, NOW);
        assert_eq!(rounds.due(agent, NOW), None);
        let next = turn(agent, NOW) + ROUND_SECONDS;
        assert_eq!(rounds.due(agent, next - 1), None);
        assert_eq!(rounds.due(agent, next), Some((Why::Round, NOW)));
        rounds.want(agent, NOW + 1);
        assert_eq!(rounds.due(agent, NOW + 1), Some((Why::Wanted, NOW)));
        rounds.handed(agent, NOW + 2);
        assert_eq!(rounds.due(agent, NOW + 2), None);
    }

    #[test]
    fn what_another_instance_handed_counts() {
        let (rounds, agent) = (Rounds::default(), AgentNo(9));
        rounds.handed_elsewhere(agent, NOW);
        assert_eq!(rounds.due(agent, NOW), None);
        rounds.handed_elsewhere(agent, NOW - 7_200);
        assert_eq!(rounds.due(agent, NOW), None, "an older word changes nothing");
    }

    #[test]
    fn newer_policies_are_asked_out_of_turn() {
        let (rounds, agent) = (Rounds::default(), AgentNo(9));
        let at = turn(agent, NOW) + 1;
        rounds.handed(agent, at);
        rounds.policies_changed.store(at + 5, Ordering::Relaxed);
        assert_eq!(rounds.due(agent, at + 6), Some((Why::Policies, at)));
        rounds.handed(agent, at + 6);
        assert_eq!(rounds.due(agent, at + 6), None);
    }
}
