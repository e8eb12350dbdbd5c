//! How two types of one column become one.

use muster_types::ColumnType;

/// The narrowest type that holds every value of both.
///
/// Bool < Int < Float < Json < Text, Time < Text, Bytes < Text. It is a tree, so the order of
/// widening does not matter. Int with Float gives Float, as in SQL: beyond 2^53 it rounds.
#[must_use]
pub fn widen(a: ColumnType, b: ColumnType) -> ColumnType {
    use ColumnType::{Bool, Bytes, Float, Int, Json, Text, Time};
    let height = |kind| match kind {
        Bool => 0,
        Int => 1,
        Float => 2,
        Json => 3,
        Time | Bytes | Text => 4,
    };
    if a == b {
        return a;
    }
    match (height(a), height(b)) {
        (4, _) | (_, 4) => Text,
        (low, high) if low < high => b,
        _ => a,
    }
}

/// The set of types a column was seen with, as the catalog keeps it.
///
/// Its number only gains bits, so writers may add to it in any order: `rank | $1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Types(i64);

impl Types {
    /// Just this type.
    #[must_use]
    pub fn of(kind: ColumnType) -> Self {
        Self(1 << (kind as u32))
    }

    /// The number to store.
    #[must_use]
    pub fn rank(self) -> i64 {
        self.0
    }

    /// What a stored number means; bits of types that this version does not know are kept.
    #[must_use]
    pub fn from_rank(rank: i64) -> Self {
        Self(rank)
    }

    /// The type that holds all of them. Text when a type is not known to this version.
    #[must_use]
    pub fn kind(self) -> ColumnType {
        let known = ALL.iter().fold(0, |bits, kind| bits | Self::of(*kind).0);
        if self.0 & !known != 0 {
            return ColumnType::Text;
        }
        let seen = ALL.into_iter().filter(|kind| self.0 & Self::of(*kind).0 != 0);
        seen.reduce(widen).unwrap_or(ColumnType::Text)
    }
}

impl FromIterator<ColumnType> for Types {
    fn from_iter<I: IntoIterator<Item = ColumnType>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | Self::of(kind).0))
    }
}

const ALL: [ColumnType; 7] = [
    ColumnType::Bool,
    ColumnType::Int,
    ColumnType::Float,
    ColumnType::Time,
    ColumnType::Bytes,
    ColumnType::Json,
    ColumnType::Text,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_a_lattice() {
        for a in ALL {
            assert_eq!(widen(a, a), a);
            for b in ALL {
                assert_eq!(widen(a, b), widen(b, a));
                let up = widen(a, b);
                assert_eq!(widen(up, a), up, "never narrows");
                for c in ALL {
                    assert_eq!(widen(widen(a, b), c), widen(a, widen(b, c)));
                    assert_eq!(Types::from_iter([a, b, c]).kind(), widen(widen(a, b), c));
                }
            }
        }
    }

    #[test]
    fn a_type_of_a_newer_version_reads_as_text() {
        let newer = Types::from_rank(Types::of(ColumnType::Int).rank() | 1 << 20);
        assert_eq!(newer.kind(), ColumnType::Text);
        assert_eq!(newer.rank(), Types::of(ColumnType::Int).rank() | 1 << 20);
    }
}
