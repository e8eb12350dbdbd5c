//! Walks the frames of a segment file in order.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use muster_types::SHARDS;

use super::frame::{self, Parsed};
use super::segment::HEADER_BYTES;
use super::trims::PerShard;

const READ_BYTES: usize = 1 << 20;

/// How a walk ended.
#[derive(Debug)]
pub(super) struct Scan {
    /// The position after the last valid frame.
    pub(super) end: u64,
    /// The highest position of each shard.
    pub(super) last: PerShard,
    /// What stands at the end when it is neither a frame nor unwritten.
    pub(super) bad: Option<&'static str>,
}

/// Walks all frames of the segment at `base`, up to the first place that is none.
pub(super) fn scan(file: &File, base: u64) -> io::Result<Scan> {
    let mut walk = Scan { end: base + HEADER_BYTES, last: [0; SHARDS as usize], bad: None };
    let mut want = READ_BYTES;
    loop {
        let bytes = read_some(file, walk.end - base, want)?;
        let mut at = 0;
        loop {
            match frame::parse(&bytes[at..], walk.end, true) {
                Parsed::Frame { shard: frame::SEAL, .. } => return Ok(walk),
                Parsed::Frame { shard, payload_bytes } => {
                    walk.last[usize::from(shard)] = walk.end;
                    let frame_bytes = frame::HEADER_BYTES + payload_bytes;
                    walk.end += frame_bytes as u64;
                    at += frame_bytes;
                }
                // The buffer ends inside the frame: go on with the next one, unless the file does.
                Parsed::Short(needs) if bytes.len() == want => {
                    want = needs.max(READ_BYTES);
                    break;
                }
                Parsed::Short(_) => {
                    walk.bad = Some("frame that ends early");
                    return Ok(walk);
                }
                // The buffer ends exactly at a frame, perhaps with some unwritten bytes.
                Parsed::End if bytes.len() == want && bytes.len() - at < frame::HEADER_BYTES => {
                    want = READ_BYTES;
                    break;
                }
                Parsed::End => return Ok(walk),
                Parsed::Bad(why) => {
                    walk.bad = Some(why);
                    return Ok(walk);
                }
            }
        }
    }
}

/// Up to `want` bytes from `offset`; fewer only at the end of the file.
pub(super) fn read_some(file: &File, offset: u64, want: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; want];
    let mut filled = 0;
    while filled < want {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
