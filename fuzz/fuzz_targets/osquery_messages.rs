//! Everything osquery agents post, and its form in the stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz_tests::osquery_messages(data));
