//! What is in a message: a version byte, then records, each after its length.
//!
//! JetStream keeps a checksum of every message on disk, and TCP one of every packet; there is none
//! here. A message without records is the beginning of a shard.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::{Pos, Record};

/// The first byte of every message.
const VERSION: u8 = 1;

/// Some records, encoded.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) bytes: BytesMut,
    pub(super) records: usize,
}

impl Frames {
    /// Adds a record and returns its bytes with all.
    pub(super) fn push(&mut self, record: &Record) -> usize {
        let before = self.bytes.len();
        self.bytes.put_u32_le(0);
        record.encode(&mut self.bytes);
        let length = self.bytes.len() - before;
        let payload = u32::try_from(length - 4).unwrap_or(u32::MAX);
        self.bytes[before..before + 4].copy_from_slice(&payload.to_le_bytes());
        self.records += 1;
        length
    }

    /// Takes off what was added last, of this many bytes.
    pub(super) fn split_last(&mut self, length: usize) -> Self {
        let bytes = self.bytes.split_off(self.bytes.len() - length);
        self.records -= 1;
        Self { bytes, records: 1 }
    }
}

/// Stands where a record's length would; no record is that long.
const BEGINNING: u32 = u32::MAX;

/// The beginning of a shard that was read up to `before` somewhere else, or never.
pub(super) fn beginning(before: Pos) -> Bytes {
    let mut out = BytesMut::with_capacity(13);
    out.put_u8(VERSION);
    out.put_u32_le(BEGINNING);
    out.put_u64_le(before.0);
    out.freeze()
}

/// When a message is the beginning of a shard: up to where it was read before.
pub(super) fn as_beginning(mut message: &[u8]) -> Option<Pos> {
    let is = message.try_get_u8() == Ok(VERSION) && message.try_get_u32_le() == Ok(BEGINNING);
    if is { message.try_get_u64_le().ok().map(Pos) } else { None }
}

/// One message of several parts.
pub(super) fn encode<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + parts.clone().map(<[u8]>::len).sum::<usize>());
    out.put_u8(VERSION);
    for part in parts {
        out.put_slice(part);
    }
    out.freeze()
}

/// The records of a message; they share its bytes.
pub(super) fn decode(mut message: Bytes) -> Result<Vec<Record>, String> {
    match message.try_get_u8() {
        Ok(VERSION) => {}
        Ok(newer) => {
            return Err(format!("message format {newer} is newer than this version reads"));
        }
        Err(_) => return Err("the message is empty".to_owned()),
    }
    let mut records = Vec::new();
    if message.starts_with(&BEGINNING.to_le_bytes()) {
        return Ok(records);
    }
    while message.has_remaining() {
        let length = message.try_get_u32_le().map_err(|_| "the message ends early")? as usize;
        if length > message.len() {
            return Err("the message ends early".to_owned());
        }
        let record = Record::decode(message.split_to(length)).map_err(|error| error.to_string())?;
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::record;

    #[test]
    fn records_read_back_as_they_were_written() {
        let records = [record(1, "a"), record(65, ""), record(1, "ccc")];
        let (mut first, mut second) = (Frames::default(), Frames::default());
        first.push(&records[0]);
        let length = first.push(&records[1]);
        let last = first.split_last(length);
        second.push(&records[2]);
        let parts = [&first.bytes[..], &last.bytes, &second.bytes];
        let message = encode(parts.into_iter());
        assert_eq!(as_beginning(&message), None);
        assert_eq!(decode(message).unwrap(), records);
        assert_eq!(decode(beginning(Pos(7))).unwrap(), []);
        assert_eq!(as_beginning(&beginning(Pos(7))), Some(Pos(7)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = decode(bytes.into());
        }
    }
}
