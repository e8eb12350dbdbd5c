//! SQL conditions over endpoints.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = muster_endpoints::condition::Condition::parse(text);
});
