//! A vector by dense number that is cheap to copy: copies share what they do not change.

use std::sync::Arc;

const CHUNK: usize = 256;

/// Entries by number. Cloning costs a pointer per 256 entries; writing copies one chunk of pointers.
#[derive(Debug)]
pub(crate) struct Table<T> {
    chunks: Vec<Arc<Chunk<T>>>,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T>([Option<Arc<T>>; CHUNK]);

impl<T> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T> Table<T> {
    pub(crate) fn get(&self, no: u32) -> Option<&Arc<T>> {
        let no = no as usize;
        self.chunks.get(no / CHUNK)?.0[no % CHUNK].as_ref()
    }

    /// Puts an entry; the previous one comes back.
    pub(crate) fn put(&mut self, no: u32, entry: Arc<T>) -> Option<Arc<T>> {
        let no = no as usize;
        while self.chunks.len() <= no / CHUNK {
            self.chunks.push(Arc::new(Chunk([const { None }; CHUNK])));
        }
        let previous = Arc::make_mut(&mut self.chunks[no / CHUNK]).0[no % CHUNK].replace(entry);
        self.len += usize::from(previous.is_none());
        previous
    }

    /// Changes an entry in place; a copy of it when another snapshot shares it.
    pub(crate) fn edit(&mut self, no: u32, edit: impl FnOnce(&mut T))
    where
        T: Clone,
    {
        let no = no as usize;
        let Some(chunk) = self.chunks.get_mut(no / CHUNK) else { return };
        if chunk.0[no % CHUNK].is_some()
            && let Some(entry) = &mut Arc::make_mut(chunk).0[no % CHUNK]
        {
            edit(Arc::make_mut(entry));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All entries by rising number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.0.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_saw() {
        let mut table = Table::default();
        assert!(table.put(1_000, Arc::new("a")).is_none());
        let copy = table.clone();
        assert_eq!(table.put(1_000, Arc::new("b")).as_deref(), Some(&"a"));
        table.put(3, Arc::new("c"));
        assert_eq!((copy.len(), table.len()), (1, 2));
        assert_eq!(copy.get(1_000).map(|entry| **entry), Some("a"));
        assert_eq!(table.iter().map(|entry| **entry).collect::<Vec<_>>(), ["c", "b"]);
        assert!(table.get(u32::MAX).is_none());
    }
}
