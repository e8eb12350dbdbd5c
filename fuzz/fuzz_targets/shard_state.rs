//! State of the fold, base or delta.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz_tests::shard_state(data));
