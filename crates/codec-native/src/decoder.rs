//! From stored batches to facts.

use bytes::Bytes;
use muster_types::{Decode, Facts, Poison, Record, Repeat};

use crate::Batch;

/// Reads the stream's records of native agents: each is one batch frame as it was received.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeDecoder;

impl Decode for NativeDecoder {
    fn decode(&self, _record: &Record, payload: Bytes) -> Result<Facts, Poison> {
        let batch = Batch::decode(payload).map_err(|e| Poison { reason: e.to_string() })?;
        let repeat = Repeat::Sequence { stream: batch.stream, seq: batch.seq };
        Ok(Facts { repeat, items: batch.items })
    }
}
