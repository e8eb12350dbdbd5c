//! SQL over results and the catalog: the `muster sql-worker` child.
//!
//! The only crate that sees DataFusion. One process answers one [`muster_types::SqlRequest`] and
//! exits, so a query can be given hard limits and can take nothing down with it. What the asker may
//! see is an argument of every table and applied in its scan; SQL text is never rewritten for it.
//!
//! - [`worker`]: the process: limits, first line, Arrow stream.
//! - [`engine`]: the DataFusion session and the way from text to a plan.
//! - [`question`]: what all tables of one query share: access, catalog, archive, the fleet.
//! - [`schema`]: which tables there are, found when a text names them.
//! - [`results`]: result tables over the parts of the manifest.
//! - [`current`]: the present state of scheduled sources, merged while it is read.
//! - [`tables`]: tables of the catalog.
//! - [`version`]: the order of version numbers, and its functions.

mod current;
mod engine;
mod error;
mod question;
mod results;
mod schema;
mod tables;
pub mod version;
mod worker;

pub use engine::{Answer, Engine};
pub use error::Error;
pub use worker::worker_main;

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    [
        question::STATEMENTS,
        results::FLEET_STATEMENTS,
        results::STATEMENTS,
        tables::STATEMENTS,
        tables::UPLOAD_STATEMENTS,
    ]
    .concat()
}
