//! Names, subjects and positions.

use muster_types::{Pos, SHARDS, Shard};

/// Streams, of as many shards each.
pub(super) const STREAMS: usize = 8;

/// Shards of one stream.
const SHARDS_EACH: usize = SHARDS as usize / STREAMS;

/// A position is a message's sequence, and in its low bits the place of a record in it.
const PLACE_BITS: u32 = 16;

/// Records of one message.
pub(super) const RECORDS_MAX: usize = 1 << PLACE_BITS;

/// The stream a shard is in.
pub(super) fn stream_of(shard: Shard) -> usize {
    shard.index() / SHARDS_EACH
}

/// The shards of a stream.
pub(super) fn shards_of(stream: usize) -> impl Iterator<Item = Shard> {
    Shard::all().filter(move |shard| stream_of(*shard) == stream)
}

/// The name of a stream.
pub(super) fn stream_name(prefix: &str, stream: usize) -> String {
    format!("{prefix}_stream_{stream}")
}

/// The names of all streams of an installation, as the servers know them.
#[must_use]
pub fn stream_names(prefix: &str) -> Vec<String> {
    (0..STREAMS).map(|stream| stream_name(prefix, stream)).collect()
}

/// The subject of a shard.
pub(super) fn subject(prefix: &str, shard: Shard) -> String {
    format!("{prefix}.s.{}", shard.get())
}

/// The shard of a subject.
pub(super) fn shard_of(subject: &str) -> Option<Shard> {
    Shard::new(subject.rsplit('.').next()?.parse().ok()?)
}

/// The position of the record at `place` of a message.
pub(super) fn pos(sequence: u64, place: usize) -> Pos {
    Pos(sequence << PLACE_BITS | place as u64)
}

/// The sequence of the message a position is in.
pub(super) fn sequence(pos: Pos) -> u64 {
    pos.0 >> PLACE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_is_in_one_stream() {
        for stream in 0..STREAMS {
            assert_eq!(shards_of(stream).count(), 8);
            for shard in shards_of(stream) {
                assert_eq!(stream_of(shard), stream);
                assert_eq!(shard_of(&subject("muster", shard)), Some(shard));
            }
        }
        assert_eq!(stream_names("muster").len(), 8);
    }

    #[test]
    fn positions_rise_within_and_between_messages() {
        assert!(pos(1, RECORDS_MAX - 1) < pos(2, 0));
        assert!(pos(2, 0) < pos(2, 1));
        assert_eq!(sequence(pos(7, RECORDS_MAX - 1)), 7);
        assert_eq!(sequence(Pos(0)), 0);
    }
}
