//! Containers of the archive.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = muster_results::read_container(data);
});
