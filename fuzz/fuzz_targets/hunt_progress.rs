//! Progress of a hunt in one shard: what decodes is read back as the same.
#![no_main]

use muster_hunts::ShardProgress;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(progress) = ShardProgress::decode(data) {
        let again = ShardProgress::decode(&progress.encode());
        assert!(again.is_ok_and(|again| again.encode() == progress.encode()));
    }
});
