//! Records of the stream: what decodes is read back as the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz_tests::records(data));
