//! From the stream to the archive: the fold, the worker that commits what it comes to, and the
//! janitor that keeps the archive small.

pub mod deletion;
pub mod fold;
pub mod janitor;
pub mod worker;

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [deletion::STATEMENTS, worker::STATEMENTS, janitor::STATEMENTS].concat()
}
