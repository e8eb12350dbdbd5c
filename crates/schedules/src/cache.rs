//! Rendered documents, one per distinct combination of what they depend on.

use std::collections::HashMap;
use std::sync::Arc;

use muster_types::OrgId;

use crate::Rendered;

/// Documents kept at once; beyond, the one that was asked for longest ago goes.
const ENTRIES_MAX: usize = 4_096;
/// Their bytes in all.
const BYTES_MAX: usize = 64 << 20;

/// What a document depends on, besides schedules and fragments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) org: OrgId,
    /// The bit of a platform that is known; 0 for all others.
    pub(crate) platform: u8,
    /// Which of the labels that matter the endpoint has, a bit each.
    pub(crate) labels: Box<[u64]>,
}

struct Kept {
    rendered: Arc<Rendered>,
    used: u64,
}

/// Bounded; the least recently used goes first.
#[derive(Default)]
pub(crate) struct Cache {
    kept: HashMap<Key, Kept>,
    bytes: usize,
    clock: u64,
}

impl Cache {
    pub(crate) fn get(&mut self, key: &Key) -> Option<Arc<Rendered>> {
        self.clock += 1;
        let kept = self.kept.get_mut(key)?;
        kept.used = self.clock;
        Some(Arc::clone(&kept.rendered))
    }

    pub(crate) fn put(&mut self, key: Key, rendered: &Arc<Rendered>) {
        self.clock += 1;
        self.bytes += rendered.weight();
        let kept = Kept { rendered: Arc::clone(rendered), used: self.clock };
        if let Some(previous) = self.kept.insert(key, kept) {
            self.bytes -= previous.rendered.weight();
        }
        while self.kept.len() > ENTRIES_MAX || (self.bytes > BYTES_MAX && self.kept.len() > 1) {
            self.evict();
        }
    }

    /// Looks at all entries; it happens only after a document was rendered, which costs more.
    fn evict(&mut self) {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
        if let Some(kept) = oldest.and_then(|key| self.kept.remove(&key)) {
            self.bytes -= kept.rendered.weight();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(n: u64) -> Key {
        Key { org: OrgId::DEFAULT, platform: 1, labels: [n].into() }
    }

    fn document(bytes: usize) -> Arc<Rendered> {
        let bytes = Bytes::from(vec![b' '; bytes / 2]);
        Arc::new(Rendered { with_etag: bytes.clone(), bytes, etag: "e".into() })
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::default();
        for n in 0..ENTRIES_MAX as u64 {
            cache.put(key(n), &document(2));
        }
        assert!(cache.get(&key(0)).is_some());
        cache.put(key(u64::MAX), &document(2));
        assert_eq!(cache.len(), ENTRIES_MAX);
        assert!(cache.get(&key(0)).is_some());
        assert!(cache.get(&key(1)).is_none());
    }

    #[test]
    fn large_documents_are_bounded_by_their_bytes() {
        let mut cache = Cache::default();
        for n in 0..100 {
            cache.put(key(n), &document(2 << 20));
        }
        assert!(cache.bytes <= BYTES_MAX);
        assert!(cache.get(&key(99)).is_some());
    }
}
