//! Frames of the native protocol, both ways, and enrolment requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz_tests::native_frames(data));
