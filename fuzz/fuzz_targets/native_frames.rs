//! Frames of the native protocol, both ways, and enrolment requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_codec_native::fuzz_decode(data));
