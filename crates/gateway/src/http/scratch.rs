//! Buffers of the thread, for what does not outlive a poll.

use std::cell::Cell;

/// Bytes read at a time: what one TLS record holds.
const INPUT_BYTES: usize = 16 << 10;

/// Where requests are read to and answers are made.
pub(super) struct Scratch {
    pub(super) input: [u8; INPUT_BYTES],
    pub(super) output: Vec<u8>,
}

thread_local! {
    static FREE: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Works with the thread's buffers. Within itself it gets others.
pub(super) fn with<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let free = FREE.take();
    let new =
        || Box::new(Scratch { input: [0; INPUT_BYTES], output: Vec::with_capacity(16 << 10) });
    let mut scratch = free.unwrap_or_else(new);
    scratch.output.clear();
    let result = work(&mut scratch);
    FREE.set(Some(scratch));
    result
}
