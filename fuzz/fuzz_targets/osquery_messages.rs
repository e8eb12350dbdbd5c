//! Everything osquery agents post, and its form in the stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_codec_osquery::fuzz_decode(data));
