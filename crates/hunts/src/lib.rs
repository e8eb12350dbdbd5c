//! Hunts: what is asked of which endpoints, and what became of it.

mod def;
mod limits;
mod progress;

pub use def::{Deadline, Definition, HuntDef, HuntKind, HuntState, UnknownWord};
pub use limits::{Limits, LimitsError};
pub use progress::{ProgressError, ShardProgress};
