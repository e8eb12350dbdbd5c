//! What a process tells of itself: logs, traces, profiles, reports, debug archives, findings.
//!
//! - [`logging`]: lines on standard error, and the last of them in memory ([`ring`]).
//! - [`trace`]: spans for a collector, by OTLP.
//! - [`profile`]: processor and heap, as `pprof`.
//! - [`report`]: facts an instance writes down about itself; [`doctor`]: what is wrong with them.
//! - [`debug`]: everything of all instances in one file, by way of catalog and archive.
//! - [`redact`]: what keeps secrets out of all of it.

pub mod debug;
pub mod doctor;
pub mod logging;
pub mod profile;
pub mod redact;
pub mod report;
pub mod ring;
pub mod trace;

/// The statements of this crate, for the tests that prepare all of them on both databases.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [debug::STATEMENTS, report::STATEMENTS, doctor::STATEMENTS].concat()
}
