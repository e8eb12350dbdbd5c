//! The newest durable batches, in memory, so that a reader that keeps up never touches the disk.

use std::collections::VecDeque;

use bytes::Bytes;

/// Kept at most; older batches are read from the files.
const BYTES_MAX: usize = 8 << 20;

/// Batches in the order of their positions, without holes between the first and the last.
#[derive(Debug, Default)]
pub(super) struct Tail {
    parts: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

impl Tail {
    /// Adds what became durable at `pos`.
    pub(super) fn push(&mut self, pos: u64, bytes: Bytes) {
        self.bytes += bytes.len();
        self.parts.push_back((pos, bytes));
        while self.bytes > BYTES_MAX
            && let Some((_, oldest)) = self.parts.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// Frees the memory: nobody needs what is in it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whole frames from the frame at `pos` on, or from the next frame after it when nothing is at
    /// `pos` (the end of a segment). `None` when that is older than the tail, or not there yet.
    pub(super) fn read(&self, pos: u64) -> Option<(u64, Bytes)> {
        let after = self.parts.partition_point(|(start, _)| *start <= pos);
        let (start, bytes) = self.parts.get(after.checked_sub(1)?)?;
        let offset = usize::try_from(pos - start).ok()?;
        if offset < bytes.len() {
            return Some((pos, bytes.slice(offset..)));
        }
        self.parts.get(after).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_within_and_across_parts_and_forgets_the_oldest() {
        let mut tail = Tail::default();
        tail.push(64, Bytes::from_static(b"abc"));
        tail.push(100, Bytes::from_static(b"de"));
        assert_eq!(tail.read(10), None);
        assert_eq!(tail.read(65), Some((65, Bytes::from_static(b"bc"))));
        assert_eq!(tail.read(67), Some((100, Bytes::from_static(b"de"))));
        assert_eq!(tail.read(102), None);
        tail.push(102, Bytes::from(vec![0; BYTES_MAX - 1]));
        assert_eq!(tail.read(65), None);
        assert_eq!(
            tail.read(102).map(|(pos, bytes)| (pos, bytes.len())),
            Some((102, BYTES_MAX - 1))
        );
    }
}
