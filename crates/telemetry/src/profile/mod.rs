//! Profiles of this process, in the format of `pprof`.

mod cpu;
mod heap;

pub use cpu::cpu;
pub use heap::{HeapProfile, heap};

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}
