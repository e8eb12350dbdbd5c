//! Frames: how one record lies in a segment.
//!
//! ```text
//! length of payload u32 | crc32c u32 | shard u8 | 0 u8 ×3 | payload
//! ```
//! Little endian. The checksum covers the payload, then length, shard and the frame's position, so
//! a frame is valid at its own place only: bytes left over from an earlier write, or a frame inside
//! a payload, never pass for a record. The appender computes the payload's part; the committer,
//! who alone knows the position, adds the rest.

use muster_types::{Pos, Record, SHARDS};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 12;

/// A larger payload is refused when writing and corrupt when reading.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// In place of a shard: the last frame of a sealed segment.
pub(super) const SEAL: u8 = 0xff;

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A frame with this payload.
    Frame {
        /// Its shard, or [`SEAL`].
        shard: u8,
        /// Bytes of its payload, right after the header.
        payload_bytes: usize,
    },
    /// Nothing was written here.
    End,
    /// The given bytes end inside the frame, which needs this many.
    Short(usize),
    /// No frame. Says why.
    Bad(&'static str),
}

/// Appends a record's frame, not yet placed.
pub(super) fn push(out: &mut BytesMut, record: &Record) {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    record.encode(out);
    seal_payload(&mut out[start..], record.shard().get());
}

/// Appends the frame that ends a segment, placed at `pos`.
pub(super) fn push_seal(out: &mut BytesMut, payload: &[u8], pos: u64) {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    out.put_slice(payload);
    seal_payload(&mut out[start..], SEAL);
    place(&mut out[start..], pos, |_, _| {});
}

fn seal_payload(frame: &mut [u8], shard: u8) {
    let (header, payload) = frame.split_at_mut(HEADER_BYTES);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    header[8] = shard;
}

/// Completes the checksums of unplaced frames that will lie at `pos` and after, and tells each
/// one's shard and position.
pub(super) fn place(mut frames: &mut [u8], mut pos: u64, mut tell: impl FnMut(u8, Pos)) {
    while let Some((header, rest)) = frames.split_at_mut_checked(HEADER_BYTES) {
        let length = word(header, 0);
        let crc = placed_crc(word(header, 4), length, header[8], pos);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        tell(header[8], Pos(pos));
        pos += HEADER_BYTES as u64 + u64::from(length);
        frames = &mut rest[length as usize..];
    }
}

/// Reads what stands at the start of `bytes`, which lie at `pos`. Without `verify` the checksum is
/// not looked at: for bytes that never left memory.
pub(super) fn parse(bytes: &[u8], pos: u64, verify: bool) -> Parsed {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        let empty = bytes.iter().all(|byte| *byte == 0);
        return if empty { Parsed::End } else { Parsed::Short(HEADER_BYTES) };
    };
    if header.iter().all(|byte| *byte == 0) {
        return Parsed::End;
    }
    let (length, shard) = (word(header, 0), header[8]);
    let payload_bytes = length as usize;
    if payload_bytes == 0 || payload_bytes > PAYLOAD_BYTES_MAX {
        return Parsed::Bad("length");
    }
    if (shard >= SHARDS && shard != SEAL) || header[9..] != [0, 0, 0] {
        return Parsed::Bad("shard");
    }
    let Some(payload) = rest.get(..payload_bytes) else {
        return Parsed::Short(HEADER_BYTES + payload_bytes);
    };
    if verify && placed_crc(crc32c::crc32c(payload), length, shard, pos) != word(header, 4) {
        return Parsed::Bad("checksum");
    }
    Parsed::Frame { shard, payload_bytes }
}

/// The payload of the frame that [`parse`] found at the start of `bytes`.
pub(super) fn payload(bytes: &Bytes, payload_bytes: usize) -> Bytes {
    bytes.slice(HEADER_BYTES..HEADER_BYTES + payload_bytes)
}

fn placed_crc(payload_crc: u32, length: u32, shard: u8, pos: u64) -> u32 {
    let mut place = [0; 13];
    place[..4].copy_from_slice(&length.to_le_bytes());
    place[4] = shard;
    place[5..].copy_from_slice(&pos.to_le_bytes());
    crc32c::crc32c_append(payload_crc, &place)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

/// Reads arbitrary bytes as the inside of a segment, with checksums and without; for fuzzers. Returns
/// how many frames stand at its start, whose checksums may be wrong.
#[doc(hidden)]
#[must_use]
pub fn fuzz_frames(bytes: &[u8]) -> usize {
    let bytes = Bytes::copy_from_slice(bytes);
    let frames = |verify| {
        let (mut at, mut count) = (0, 0);
        while let Parsed::Frame { payload_bytes, .. } = parse(&bytes[at..], at as u64, verify) {
            let _ = Record::decode(payload(&bytes.slice(at..), payload_bytes));
            at += HEADER_BYTES + payload_bytes;
            count += 1;
        }
        count
    };
    let (valid, all) = (frames(true), frames(false));
    debug_assert!(valid <= all, "a checksum only leaves out");
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::record;

    /// Frames of these contents, placed at `pos`, and where each starts.
    fn placed(contents: &[String], pos: u64) -> (Vec<u8>, Vec<(usize, Record)>) {
        let mut bytes = BytesMut::new();
        let mut starts = Vec::new();
        for (n, content) in contents.iter().enumerate() {
            let record = record(n as u32, content);
            starts.push((bytes.len(), record.clone()));
            push(&mut bytes, &record);
        }
        place(&mut bytes, pos, |_, _| {});
        (bytes.to_vec(), starts)
    }

    fn read(bytes: &[u8], pos: u64) -> Vec<(usize, Record)> {
        let bytes = Bytes::copy_from_slice(bytes);
        let (mut at, mut found) = (0, Vec::new());
        while let Parsed::Frame { payload_bytes, .. } = parse(&bytes[at..], pos + at as u64, true) {
            let payload = payload(&bytes.slice(at..), payload_bytes);
            found.push((at, Record::decode(payload).unwrap()));
            at += HEADER_BYTES + payload_bytes;
        }
        found
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = fuzz_frames(&bytes);
        }

        #[test]
        fn flipped_cut_and_moved_frames_yield_only_what_was_written(
            contents in proptest::collection::vec(".{0,60}", 1..8),
            pos in 0u64..1 << 40,
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..4),
            cut in any::<prop::sample::Index>(),
            shift in 1u64..1000,
        ) {
            let (bytes, starts) = placed(&contents, pos);
            prop_assert_eq!(&read(&bytes, pos), &starts);
            prop_assert!(read(&bytes, pos + shift).is_empty(), "not valid at another place");

            let mut damaged = bytes.clone();
            for (index, mask) in &flips {
                damaged[index.index(bytes.len())] ^= mask;
            }
            damaged.truncate(cut.index(bytes.len() + 1));
            let found = read(&damaged, pos);
            prop_assert!(starts.starts_with(&found));
        }
    }

    #[test]
    fn a_frame_inside_a_payload_is_not_valid_there() {
        let (inner, _) = placed(&["planted".to_owned()], 64);
        let mut outer = BytesMut::new();
        let mut carrier = record(1, "");
        carrier.body =
            muster_types::Body::Wire(muster_types::Payload::Inline(inner.clone().into()));
        push(&mut outer, &carrier);
        place(&mut outer, 64, |_, _| {});
        let at = outer.windows(inner.len()).position(|window| window == inner).unwrap();
        assert_eq!(parse(&outer[at..], 64 + at as u64, true), Parsed::Bad("checksum"));
    }
}
