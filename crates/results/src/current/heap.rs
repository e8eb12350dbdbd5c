//! The least of many cursors, found again after each step.

/// Places of cursors; the least stands first.
pub(super) struct Heap(Vec<usize>);

impl Heap {
    /// A heap of these places.
    pub(super) fn new(places: Vec<usize>, less: impl Fn(usize, usize) -> bool) -> Self {
        let mut heap = Self(places);
        for at in (0..heap.0.len() / 2).rev() {
            heap.sink(at, &less);
        }
        heap
    }

    pub(super) fn least(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// To be called when the least has moved on.
    pub(super) fn moved(&mut self, less: impl Fn(usize, usize) -> bool) {
        self.sink(0, &less);
    }

    /// To be called when the least is at its end.
    pub(super) fn ended(&mut self, less: impl Fn(usize, usize) -> bool) {
        self.0.swap_remove(0);
        self.sink(0, &less);
    }

    fn sink(&mut self, mut at: usize, less: &impl Fn(usize, usize) -> bool) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.0.len() && less(self.0[child], self.0[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.0.swap(at, least);
            at = least;
        }
    }
}
