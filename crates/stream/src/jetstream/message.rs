//! What is in a message: a version byte, then records, each after its length.
//!
//! JetStream keeps a checksum of every message on disk, and TCP one of every packet; there is none
//! here. A message without records is the beginning of a shard.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::{DecodeError, Format, Pos, Record};

/// The form of a message.
pub const MESSAGE: Format = Format::first("stream-message");
/// The first byte of every message.
const VERSION: u8 = MESSAGE.only();

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

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// A newer version wrote it.
    #[error("{0}")]
    Newer(String),
    /// Nobody did.
    #[error("{0}")]
    Damaged(String),
}

impl From<DecodeError> for Unreadable {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Version(_) => Self::Newer(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

/// The records of a message; they share its bytes.
pub(super) fn decode(mut message: Bytes) -> Result<Vec<Record>, Unreadable> {
    let damaged = |why: &str| Unreadable::Damaged(why.to_owned());
    match message.try_get_u8() {
        Ok(VERSION) => {}
        Ok(newer) => {
            let why = format!("message format {newer} is newer than this version reads");
            return Err(Unreadable::Newer(why));
        }
        Err(_) => return Err(damaged("the message is empty")),
    }
    let mut records = Vec::new();
    if message.starts_with(&BEGINNING.to_le_bytes()) {
        return Ok(records);
    }
    while message.has_remaining() {
        let short = |_| damaged("the message ends early");
        let length = message.try_get_u32_le().map_err(short)? as usize;
        if length > message.len() {
            return Err(damaged("the message ends early"));
        }
        records.push(Record::decode(message.split_to(length))?);
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

    #[test]
    fn what_is_newer_is_told_from_what_is_damaged() {
        let newer = |bytes: &'static [u8]| {
            matches!(decode(Bytes::from_static(bytes)), Err(Unreadable::Newer(_)))
        };
        assert!(newer(&[2]), "a newer message");
        assert!(newer(&[1, 1, 0, 0, 0, 2]), "a newer record");
        assert!(!newer(&[]) && !newer(&[1, 9, 0, 0, 0]) && !newer(&[1, 1, 0, 0, 0, 1]));
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
