//! Artifacts in YAML, as people write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz_tests::artifacts(data));
