//! Who holds memory, by jemalloc's samples.

use super::Error;

/// A heap profile, or the reason why there is none.
#[derive(Debug)]
pub enum HeapProfile {
    /// Gzipped protobuf.
    Pprof(Vec<u8>),
    /// The allocator does not sample; how to make it.
    Off(&'static str),
}

const HOW: &str = "the allocator takes no samples; start the process with \
    _RJEM_MALLOC_CONF=prof:true,prof_active:true,lg_prof_sample:19";

/// What is allocated now, as far as it was sampled.
///
/// # Errors
/// When the profile cannot be written or read back.
pub async fn heap() -> Result<HeapProfile, Error> {
    let Some(control) = jemalloc_pprof::PROF_CTL.as_ref() else {
        return Ok(HeapProfile::Off(HOW));
    };
    let mut control = control.lock().await;
    if !control.activated() {
        return Ok(HeapProfile::Off(HOW));
    }
    control.dump_pprof().map(HeapProfile::Pprof).map_err(Error::of)
}
