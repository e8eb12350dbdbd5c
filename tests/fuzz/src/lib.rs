//! What fuzzers run: one function for each format that others may have written.
//!
//! `fuzz/` gives them to libFuzzer, which needs a nightly compiler; `tests/stable.rs` runs them over mutated
//! samples with any compiler. Each takes any bytes, and panics when it has found something.

use bytes::{Bytes, BytesMut};
use muster_hunts::ShardProgress;
use muster_intake::fold::ShardState;
use muster_types::{Record, Shard};

/// Artifacts in YAML, as people write them.
pub fn artifacts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(artifact) = muster_artifact::parse(text) {
        let _ = artifact.table_name();
    }
}

/// SQL conditions over endpoints.
pub fn conditions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = muster_endpoints::condition::Condition::parse(text);
}

/// Progress of a hunt in one shard: what decodes is read back as the same.
///
/// # Panics
/// When it is not.
pub fn hunt_progress(data: &[u8]) {
    if let Ok(progress) = ShardProgress::decode(data) {
        let again = ShardProgress::decode(&progress.encode());
        assert!(again.is_ok_and(|again| again.encode() == progress.encode()));
    }
}

/// The inside of a segment file of the log.
pub fn log_frames(data: &[u8]) {
    let _ = muster_stream::log::fuzz_frames(data);
}

/// Frames of the native protocol, both ways, and enrolment requests.
pub fn native_frames(data: &[u8]) {
    muster_codec_native::fuzz_decode(data);
}

/// Everything osquery agents post, and its form in the stream.
pub fn osquery_messages(data: &[u8]) {
    muster_codec_osquery::fuzz_decode(data);
}

/// Records of the stream: what decodes is read back as the same.
///
/// # Panics
/// When it is not.
pub fn records(data: &[u8]) {
    if let Ok(record) = Record::decode(Bytes::copy_from_slice(data)) {
        let mut again = BytesMut::new();
        record.encode(&mut again);
        assert_eq!(Record::decode(again.freeze()), Ok(record));
    }
}

/// Containers of the archive: as they are, and as the index of one whose checksum fits.
///
/// # Panics
/// When the marks of an empty container are not where they belong.
pub fn segments(data: &[u8]) {
    let _ = muster_results::read_container(data);
    // A checksum keeps what stands behind it from being reached by chance.
    let (empty, _) = muster_results::SegmentWriter::new().finish();
    let (mark, tail) = (&empty[..8], &empty[empty.len() - 8..]);
    let body = data.first().map_or(0, |n| usize::from(*n));
    let (body, index) = data.split_at_checked(body).unwrap_or((&[], data));
    let length = u32::try_from(index.len()).unwrap_or(u32::MAX);
    let sum = crc32c::crc32c(index).to_le_bytes();
    let sealed = [mark, body, index, &sum, &length.to_le_bytes(), tail].concat();
    let _ = muster_results::read_container(&sealed);
}

/// State of the fold, base or delta.
///
/// # Panics
/// When what was read is not read back as the same.
pub fn shard_state(data: &[u8]) {
    let Some(shard) = Shard::new(0) else { return };
    let mut state = ShardState::new(shard);
    if state.read(data).is_ok() {
        let newest = ShardState::FORMAT.newest;
        let mut again = ShardState::new(shard);
        assert!(again.read(&state.encode_base(newest)).is_ok());
        assert_eq!(again.encode_base(newest), state.encode_base(newest));
    }
}
