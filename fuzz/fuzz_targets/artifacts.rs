//! Artifacts in YAML, as people write them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(artifact) = muster_artifact::parse(text) {
        let _ = artifact.table_name();
    }
});
