//! What became of the agents of one shard in one hunt, as the fold publishes it.

use bytes::{Buf, BufMut, Bytes};
use muster_types::{AgentNo, AgentSet, Format, Outcome, Shard};
use roaring::RoaringBitmap;

/// How many terminal outcomes there are; their bitmaps stand in the order of their codes.
const TERMINAL: usize = 8;
const VERSION: u8 = ShardProgress::FORMAT.only();

/// Bitmaps over [`AgentNo::local`] for one hunt and one shard. An agent is in at most one terminal
/// set: the first terminal fact wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardProgress {
    delivered: RoaringBitmap,
    terminal: [RoaringBitmap; TERMINAL],
    /// Rows stored for this hunt from this shard.
    pub row_count: u64,
    /// Bytes of rows as the agents sent them.
    pub byte_count: u64,
}

/// Why bytes are no progress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgressError {
    /// Written by a newer version.
    #[error("progress format {0} is newer than this version reads")]
    Version(u8),
    /// Cut short, malformed, or an agent with two outcomes.
    #[error("progress is malformed: {0}")]
    Malformed(&'static str),
}

impl ShardProgress {
    /// Its encoded form.
    pub const FORMAT: Format = Format::first("hunt-progress");

    /// Nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of the task were handed to the agent. Whether that was new.
    pub fn deliver(&mut self, agent: AgentNo) -> bool {
        self.delivered.insert(agent.local())
    }

    /// The attempt that was handed out is lost: the task may be handed out again.
    pub fn undeliver(&mut self, agent: AgentNo) -> bool {
        self.delivered.remove(agent.local())
    }

    /// The agent's task ended. False, and no change, when it had ended already or when `outcome` is
    /// not terminal.
    pub fn end(&mut self, agent: AgentNo, outcome: Outcome) -> bool {
        let Some(index) = index(outcome) else { return false };
        if self.is_terminal(agent) {
            return false;
        }
        self.terminal[index].insert(agent.local())
    }

    /// Whether the bytes of the task were handed to the agent.
    #[must_use]
    pub fn is_delivered(&self, agent: AgentNo) -> bool {
        self.delivered.contains(agent.local())
    }

    /// Whether the agent's task has ended.
    #[must_use]
    pub fn is_terminal(&self, agent: AgentNo) -> bool {
        self.terminal.iter().any(|set| set.contains(agent.local()))
    }

    /// What the fold knows of this agent; `Waiting` when it knows nothing.
    #[must_use]
    pub fn outcome(&self, agent: AgentNo) -> Outcome {
        for outcome in Outcome::ALL {
            if index(outcome).is_some_and(|i| self.terminal[i].contains(agent.local())) {
                return outcome;
            }
        }
        if self.is_delivered(agent) { Outcome::Running } else { Outcome::Waiting }
    }

    /// How many agents ended, whatever the outcome.
    #[must_use]
    pub fn terminal_count(&self) -> u64 {
        self.terminal.iter().map(RoaringBitmap::len).sum()
    }

    /// How many agents have this terminal outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        index(outcome).map_or(0, |i| self.terminal[i].len())
    }

    /// The agents with this outcome. `Running` is delivered and not ended; `Waiting` is empty, as
    /// only the waves know who waits.
    #[must_use]
    pub fn locals(&self, outcome: Outcome) -> RoaringBitmap {
        match (outcome, index(outcome)) {
            (_, Some(i)) => self.terminal[i].clone(),
            (Outcome::Running, _) => {
                self.terminal.iter().fold(self.delivered.clone(), |left, set| left - set)
            }
            _ => RoaringBitmap::new(),
        }
    }

    /// [`ShardProgress::locals`] as agent numbers.
    #[must_use]
    pub fn agents(&self, shard: Shard, outcome: Outcome) -> AgentSet {
        to_agents(shard, &self.locals(outcome))
    }

    /// Takes in what a later or concurrent account of the same shard knows. Where both name an
    /// outcome for one agent, the one here stays: it was first. Counts are the larger ones.
    pub fn merge(&mut self, other: &Self) {
        self.delivered |= &other.delivered;
        let ended = self.terminal.iter().fold(RoaringBitmap::new(), |all, set| all | set);
        for (mine, theirs) in self.terminal.iter_mut().zip(&other.terminal) {
            *mine |= theirs - &ended;
        }
        self.row_count = self.row_count.max(other.row_count);
        self.byte_count = self.byte_count.max(other.byte_count);
    }

    /// The form kept in `hunt_shard.progress`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let sets = std::iter::once(&self.delivered).chain(&self.terminal);
        let size: usize = sets.clone().map(|set| 4 + set.serialized_size()).sum();
        let mut out = Vec::with_capacity(17 + size);
        out.put_u8(VERSION);
        out.put_u64_le(self.row_count);
        out.put_u64_le(self.byte_count);
        for set in sets {
            if set.is_empty() {
                out.put_u32_le(0);
                continue;
            }
            let length = u32::try_from(set.serialized_size()).expect("a set of u32 is below 4 GiB");
            out.put_u32_le(length);
            set.serialize_into(&mut out).expect("writing to a vector does not fail");
        }
        out
    }

    /// Reads what [`ShardProgress::encode`] wrote. Never panics, and allocates no more than a small
    /// multiple of its input.
    ///
    /// # Errors
    /// When the bytes are not progress of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgressError> {
        let short = |_| ProgressError::Malformed("ends early");
        let mut bytes = Bytes::copy_from_slice(bytes);
        let version = bytes.try_get_u8().map_err(short)?;
        if version != VERSION {
            return Err(ProgressError::Version(version));
        }
        let row_count = bytes.try_get_u64_le().map_err(short)?;
        let byte_count = bytes.try_get_u64_le().map_err(short)?;
        let delivered = decode_set(&mut bytes)?;
        let mut terminal: [RoaringBitmap; TERMINAL] = Default::default();
        let mut all = RoaringBitmap::new();
        for set in &mut terminal {
            *set = decode_set(&mut bytes)?;
            if !all.is_disjoint(set) {
                return Err(ProgressError::Malformed("an agent has two outcomes"));
            }
            all |= &*set;
        }
        if bytes.has_remaining() {
            return Err(ProgressError::Malformed("has bytes after its end"));
        }
        Ok(Self { delivered, terminal, row_count, byte_count })
    }
}

/// Local indices of one shard as agent numbers.
pub(crate) fn to_agents(shard: Shard, locals: &RoaringBitmap) -> AgentSet {
    locals.iter().filter_map(|local| AgentNo::from_parts(shard, local)).collect()
}

fn index(outcome: Outcome) -> Option<usize> {
    outcome.is_terminal().then(|| outcome as usize - Outcome::Rows as usize)
}

fn decode_set(bytes: &mut Bytes) -> Result<RoaringBitmap, ProgressError> {
    let length = bytes.try_get_u32_le().map_err(|_| ProgressError::Malformed("ends early"))?;
    let length = length as usize;
    if length == 0 {
        return Ok(RoaringBitmap::new());
    }
    if length > bytes.remaining() {
        return Err(ProgressError::Malformed("ends early"));
    }
    let part = bytes.split_to(length);
    let mut reader = &part[..];
    let set = RoaringBitmap::deserialize_from(&mut reader)
        .map_err(|_| ProgressError::Malformed("a bitmap is not well formed"))?;
    if !reader.is_empty() {
        return Err(ProgressError::Malformed("a bitmap is shorter than it says"));
    }
    // Local indices are agent numbers divided by the number of shards.
    if set.max().is_some_and(|max| max > u32::MAX / u32::from(muster_types::SHARDS)) {
        return Err(ProgressError::Malformed("an agent number is out of range"));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn progress() -> impl Strategy<Value = ShardProgress> {
        let steps = proptest::collection::vec((0u32..600, 0u8..10), 0..300);
        (steps, any::<u64>(), any::<u64>()).prop_map(|(steps, row_count, byte_count)| {
            let mut made = ShardProgress { row_count, byte_count, ..ShardProgress::new() };
            for (local, code) in steps {
                let agent = AgentNo(local * 64);
                match Outcome::from_code(code).unwrap() {
                    Outcome::Waiting | Outcome::Running => _ = made.deliver(agent),
                    outcome => _ = made.end(agent, outcome),
                }
            }
            made
        })
    }

    proptest! {
        #[test]
        fn reads_back_as_written(made in progress()) {
            prop_assert_eq!(ShardProgress::decode(&made.encode()).unwrap(), made);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = ShardProgress::decode(&bytes);
        }

        #[test]
        fn damaged_bytes_never_panic(made in progress(), at in any::<prop::sample::Index>(), by in 1u8..) {
            let mut bytes = made.encode();
            let at = at.index(bytes.len());
            bytes[at] = bytes[at].wrapping_add(by);
            let _ = ShardProgress::decode(&bytes);
        }

        #[test]
        fn merging_gives_one_outcome_and_loses_nobody(a in progress(), b in progress()) {
            let mut both = a.clone();
            both.merge(&b);
            for local in 0..600 {
                let agent = AgentNo(local * 64);
                prop_assert_eq!(both.is_terminal(agent), a.is_terminal(agent) || b.is_terminal(agent));
                if a.is_terminal(agent) {
                    prop_assert_eq!(both.outcome(agent), a.outcome(agent));
                }
            }
            prop_assert_eq!(ShardProgress::decode(&both.encode()).unwrap(), both);
        }
    }

    #[test]
    fn the_first_end_stays() {
        let mut made = ShardProgress::new();
        let agent = AgentNo(129);
        assert!(made.deliver(agent));
        assert_eq!(made.outcome(agent), Outcome::Running);
        assert!(made.end(agent, Outcome::Failed));
        assert!(!made.end(agent, Outcome::Rows));
        assert!(!made.end(agent, Outcome::Running));
        assert_eq!(made.outcome(agent), Outcome::Failed);
        let shard = agent.shard();
        assert!(made.agents(shard, Outcome::Failed).contains(agent));
        assert!(made.agents(shard, Outcome::Running).is_empty());
    }
}
