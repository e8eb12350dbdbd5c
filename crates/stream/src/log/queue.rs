//! What waits for the committer, and who may join the queue.

use std::collections::VecDeque;

use bytes::BytesMut;
use muster_types::{Class, Pos};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{AppendError, quota};

/// Frames of one append (or a part of a large one), encoded and not yet placed.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) frames: BytesMut,
    pub(super) records: usize,
    pub(super) class: Class,
    pub(super) reply: oneshot::Sender<Result<Vec<Pos>, AppendError>>,
    /// Room in the queue, given back when the chunk is done.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Shared by appenders and the committer, under one lock that is held for moments only.
#[derive(Debug)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    /// Bytes of `chunks` and of those the committer is writing.
    pub(super) queued_bytes: u64,
    /// Bytes of durable frames in files that are there.
    pub(super) kept_bytes: u64,
    pub(super) quota_bytes: u64,
    /// The disk is nearly full.
    pub(super) low_disk: bool,
    /// Rows somebody asked for were refused, and there is no clear room since.
    pub(super) refused: bool,
    /// Something was trimmed since the committer last looked.
    pub(super) trimmed: bool,
    pub(super) closing: bool,
    pub(super) poisoned: Option<String>,
}

impl Queue {
    pub(super) fn new(quota_bytes: u64, kept_bytes: u64) -> Self {
        Self {
            chunks: VecDeque::new(),
            queued_bytes: 0,
            kept_bytes,
            quota_bytes,
            low_disk: false,
            refused: false,
            trimmed: false,
            closing: false,
            poisoned: None,
        }
    }

    /// Whether an append of this class and length may happen now.
    pub(super) fn admit(&mut self, class: Class, bytes: u64) -> Result<(), AppendError> {
        if let Some(why) = &self.poisoned {
            return Err(AppendError::Fatal(why.clone()));
        }
        if self.closing {
            return Err(AppendError::Unavailable("the log is closed".to_owned()));
        }
        let after = self.kept_bytes.saturating_add(self.queued_bytes).saturating_add(bytes);
        if after > quota::limit_bytes(class, self.quota_bytes) {
            self.refused |= class <= Class::Collected;
            return Err(quota::full());
        }
        if self.low_disk && class != Class::LifeCycle {
            return Err(quota::full());
        }
        Ok(())
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.queued_bytes += chunk.frames.len() as u64;
        self.chunks.push_back(chunk);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// At least one chunk if there is one, and more up to about `bytes_max`.
    pub(super) fn take(&mut self, bytes_max: usize) -> VecDeque<Chunk> {
        let mut bytes = 0;
        let count = self.chunks.iter().take_while(|chunk| {
            let first = bytes == 0;
            bytes += chunk.frames.len();
            first || bytes <= bytes_max
        });
        let count = count.count();
        self.chunks.drain(..count).collect()
    }
}
