//! The audit log: append-only, each record's hash covers the one before of the same instance.

mod chain;
pub mod resource;
mod verify;

pub use chain::{Entry, OUTSIDE, append};
pub use verify::{Broken, Verified, verify};

/// The statements of this module.
pub(crate) fn statements() -> Vec<&'static muster_catalog::Statement> {
    [chain::STATEMENTS, verify::STATEMENTS, resource::STATEMENTS].concat()
}
