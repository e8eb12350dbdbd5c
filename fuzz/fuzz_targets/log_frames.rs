//! The inside of a segment file of the log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz_tests::log_frames(data));
