//! Where a sink stands: a position per shard, and a place within one record.

use muster_types::{Pos, SHARDS, Shard};
use serde::{Deserialize, Serialize};

const COUNT: usize = SHARDS as usize;

/// A position of each shard: rows at or below it are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions([u64; COUNT]);

impl Default for Positions {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Positions {
    pub(crate) fn get(&self, shard: usize) -> u64 {
        self.0.get(shard).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, shard: Shard, pos: Pos) {
        self.0[shard.index()] = pos.0;
    }

    /// 8 bytes a shard, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|pos| pos.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut all = [0; COUNT];
        if words.len() != COUNT || !rest.is_empty() {
            return None;
        }
        for (pos, word) in all.iter_mut().zip(words) {
            *pos = u64::from_le_bytes(*word);
        }
        Some(Self(all))
    }

    /// Whether a row at `pos` lies behind `self` and not behind `upto`.
    pub(crate) fn between(&self, upto: &Self, shard: usize, pos: u64) -> bool {
        pos > self.get(shard) && pos <= upto.get(shard)
    }

    /// Which of 64 equal pieces of the way from `self` to `upto` a row in between stands in.
    pub(crate) fn piece(&self, upto: &Self, shard: usize, pos: u64) -> usize {
        let width = upto.get(shard).saturating_sub(self.get(shard)).max(1);
        let into = pos.saturating_sub(self.get(shard)).saturating_sub(1);
        let piece = u128::from(into) * PIECES as u128 / u128::from(width);
        usize::try_from(piece).map_or(PIECES - 1, |piece| piece.min(PIECES - 1))
    }

    /// The place `pieces` of 64 along the way from `self` to `upto`: exactly the rows of the pieces
    /// before it are done there.
    pub(crate) fn after_pieces(&self, upto: &Self, pieces: usize) -> Self {
        let mut all = [0; COUNT];
        for (shard, pos) in all.iter_mut().enumerate() {
            let width = u128::from(upto.get(shard).saturating_sub(self.get(shard)));
            let into = (width * pieces as u128).div_ceil(PIECES as u128);
            *pos = self.get(shard) + u64::try_from(into).unwrap_or(u64::MAX);
        }
        Self(all)
    }

    /// Whether no shard has more than one position left to `upto`.
    pub(crate) fn is_next(&self, upto: &Self) -> bool {
        (0..COUNT).all(|shard| upto.get(shard).saturating_sub(self.get(shard)) <= 1)
    }

    /// `self`, but for one shard as in `upto`.
    pub(crate) fn with_shard_of(mut self, upto: &Self, shard: usize) -> Self {
        self.0[shard] = upto.get(shard);
        self
    }

    /// `self`, but with one shard at `pos`.
    pub(crate) fn with_pos(mut self, shard: usize, pos: u64) -> Self {
        self.0[shard] = pos;
        self
    }

    /// The later of both, shard by shard.
    pub(crate) fn max(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
        self
    }
}

/// Where a sink is going: written down before the first row is sent, so that whoever goes on after
/// a crash sends the same rows in the same order, and what was sent and not counted comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    /// Where it stands then.
    pub upto: Positions,
    /// No row up to there belongs to a later commit.
    pub commit: i64,
    /// Whether all rows of that commit are done then.
    pub is_whole: bool,
    /// How many rows were ever committed to its tables by then, when that is known.
    pub committed_rows: Option<i64>,
}

impl Aim {
    /// The positions, the commit, 1 when it is whole, and the rows or -1; little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.upto.encode();
        let rows = self.committed_rows.unwrap_or(-1);
        for n in [self.commit, i64::from(self.is_whole), rows] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (positions, rest) = bytes.split_at_checked(COUNT * 8)?;
        let (words, &[]) = rest.as_chunks::<8>() else { return None };
        let &[commit, is_whole, rows] = words else { return None };
        Some(Self {
            upto: Positions::decode(positions)?,
            commit: i64::from_le_bytes(commit),
            is_whole: i64::from_le_bytes(is_whole) == 1,
            committed_rows: Some(i64::from_le_bytes(rows)).filter(|rows| *rows >= 0),
        })
    }
}

/// How many pieces a way is cut into.
pub(crate) const PIECES: usize = 64;

/// A row's place in the order a sink sends in: by shard, position, table, class and row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub shard: u8,
    pub pos: u64,
    pub table: String,
    pub class: u8,
    pub row: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pos: u64) -> Positions {
        let mut all = Positions::default();
        all.set(Shard::new(3).unwrap(), Pos(pos));
        all
    }

    #[test]
    fn positions_survive_their_encoding() {
        assert_eq!(Positions::decode(&at(u64::MAX).encode()), Some(at(u64::MAX)));
        assert_eq!(Positions::decode(&[0; 511]), None);
        assert_eq!(Positions::decode(&[0; 520]), None);
    }

    #[test]
    fn aims_survive_their_encoding() {
        for (is_whole, committed_rows) in [(true, Some(7)), (false, None)] {
            let aim = Aim { upto: at(9), commit: 1 << 40, is_whole, committed_rows };
            assert_eq!(Aim::decode(&aim.encode()), Some(aim));
        }
        assert_eq!(Aim::decode(&[0; 512]), None);
    }

    #[test]
    fn pieces_and_their_ends_agree() {
        for (from, upto) in [(0, 1), (0, 63), (5, 70), (10, 1000), (7, u64::MAX)] {
            let (a, b) = (at(from), at(upto));
            for pos in (from + 1..=upto).take(200).chain([upto]) {
                let piece = a.piece(&b, 3, pos);
                for pieces in 0..=PIECES {
                    let done = pos <= a.after_pieces(&b, pieces).get(3);
                    assert_eq!(done, piece < pieces, "{from} {upto} {pos} {pieces}");
                }
            }
            assert_eq!(a.after_pieces(&b, PIECES), b);
        }
    }
}
