//! The form in which presence is kept and passed on.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::{AgentNo, InstanceId, Shard};
use uuid::Uuid;

/// Agents in one hint; more make more hints.
pub(super) const MOVES_MAX: usize = 4_096;
const VERSION: u8 = 1;

/// Who of one shard was last seen when: little-endian seconds since 1970, indexed by
/// [`AgentNo::local`], zero for never. Kept in `presence_block.last_seen`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block(Vec<u8>);

impl Block {
    /// Takes bytes as they were kept; a cut last entry is ignored.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Notes when an agent of this block's shard was seen. Call with rising agents or any.
    pub fn set(&mut self, agent: AgentNo, seconds: u32) {
        let at = agent.local() as usize * 4;
        if self.0.len() < at + 4 {
            self.0.resize(at + 4, 0);
        }
        self.0[at..at + 4].copy_from_slice(&seconds.to_le_bytes());
    }

    /// When an agent of this block's shard was seen, in seconds since 1970; zero for never.
    #[must_use]
    pub fn seen(&self, agent: AgentNo) -> u32 {
        let at = agent.local() as usize * 4;
        let bytes = self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// The agents that were ever seen, and when, in seconds since 1970.
    pub fn iter(&self, shard: Shard) -> impl Iterator<Item = (AgentNo, u32)> + '_ {
        let entries = self.0.as_chunks::<4>().0.iter().zip(0u32..);
        entries.filter_map(move |(bytes, local)| {
            let seconds = u32::from_le_bytes(*bytes);
            Some((AgentNo::from_parts(shard, local)?, seconds)).filter(|_| seconds > 0)
        })
    }
}

/// Who came and who left at one instance: the content of a presence hint. With nobody in it, it asks all
/// others who came to them lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) instance: InstanceId,
    pub(super) arrived: Vec<AgentNo>,
    pub(super) left: Vec<AgentNo>,
}

impl Moves {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(21 + 4 * (self.arrived.len() + self.left.len()));
        out.put_u8(VERSION);
        out.put_slice(self.instance.0.as_bytes());
        out.put_u32_le(u32::try_from(self.arrived.len()).unwrap_or(u32::MAX));
        for agent in self.arrived.iter().chain(&self.left) {
            out.put_u32_le(agent.0);
        }
        out.freeze()
    }

    /// `None` for what another version wrote: a hint may be ignored.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 21 || bytes.get_u8() != VERSION {
            return None;
        }
        let mut id = [0; 16];
        bytes.copy_to_slice(&mut id);
        let count = bytes.get_u32_le() as usize;
        let mut arrived = Vec::new();
        while bytes.remaining() >= 4 {
            arrived.push(AgentNo(bytes.get_u32_le()));
        }
        if count > arrived.len() {
            return None;
        }
        let left = arrived.split_off(count);
        Some(Self { instance: InstanceId(Uuid::from_bytes(id)), arrived, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_moves_read_back() {
        let shard = Shard::new(3).unwrap();
        let mut block = Block::default();
        block.set(AgentNo(131), 50);
        block.set(AgentNo(67), 40);
        let read = Block::from_bytes([block.as_bytes(), &[1, 2]].concat());
        assert_eq!(read.iter(shard).collect::<Vec<_>>(), [(AgentNo(67), 40), (AgentNo(131), 50)]);
        assert_eq!([3, 67, 131, 195].map(|no| read.seen(AgentNo(no))), [0, 40, 50, 0]);

        let moves = Moves {
            instance: InstanceId(Uuid::from_u128(7)),
            arrived: vec![AgentNo(1), AgentNo(2)],
            left: vec![AgentNo(3)],
        };
        assert_eq!(Moves::decode(moves.encode()), Some(moves.clone()));
        assert_eq!(Moves::decode(moves.encode().slice(..22)), None);
        assert_eq!(Moves::decode(Bytes::from_static(b"\x02")), None);
    }
}
