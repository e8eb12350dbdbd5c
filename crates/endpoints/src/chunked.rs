//! A growing array of atomics that is read and grown without a lock.

use std::sync::OnceLock;

const CHUNK: usize = 4_096;
const CHUNKS: usize = 4_096;

/// Slots by dense number, made when first written. Reading and writing a slot takes no lock and
/// never moves another; the bound is 16.7 million slots (64 KiB of pointers).
pub struct Chunked<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

impl<T: Default> Chunked<T> {
    /// The slot, if it or a neighbour was ever asked for by [`Chunked::slot`].
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get().map(|chunk| &chunk[index % CHUNK])
    }

    /// The slot, made when missing; `None` above the bound.
    #[must_use]
    pub fn slot(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        let make = || (0..CHUNK).map(|_| T::default()).collect();
        self.chunks.get(index / CHUNK).map(|chunk| &chunk.get_or_init(make)[index % CHUNK])
    }

    /// All slots that exist, with their indices, rising.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let made = self.chunks.iter().enumerate().filter_map(|(i, chunk)| Some((i, chunk.get()?)));
        made.flat_map(|(i, chunk)| {
            let slots = chunk.iter().enumerate();
            slots.map(move |(j, slot)| ((i * CHUNK + j) as u32, slot))
        })
    }
}

impl<T> std::fmt::Debug for Chunked<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunked").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn slots_appear_when_written_and_are_bounded() {
        let slots = Chunked::<AtomicU32>::default();
        assert!(slots.get(70_000).is_none());
        slots.slot(70_000).unwrap().store(7, Ordering::Relaxed);
        assert_eq!(slots.get(70_000).unwrap().load(Ordering::Relaxed), 7);
        assert!(slots.slot(u32::MAX).is_none());
        let set: Vec<_> =
            slots.iter().filter(|(_, v)| v.load(Ordering::Relaxed) > 0).map(|(i, _)| i).collect();
        assert_eq!(set, [70_000]);
    }
}
