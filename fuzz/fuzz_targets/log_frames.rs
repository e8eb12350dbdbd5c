//! The inside of a segment file of the log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = muster_stream::log::fuzz_frames(data);
});
