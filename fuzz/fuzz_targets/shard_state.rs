//! State of the fold, base or delta.
#![no_main]

use bytes::Bytes;
use muster_intake::fold::ShardState;
use muster_types::Shard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(shard) = Shard::new(0) else { return };
    let mut state = ShardState::new(shard);
    if state.read(Bytes::copy_from_slice(data)).is_ok() {
        let mut again = ShardState::new(shard);
        assert!(again.read(state.encode_base()).is_ok());
        assert_eq!(again.encode_base(), state.encode_base());
    }
});
