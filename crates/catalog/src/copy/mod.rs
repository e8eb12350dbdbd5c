//! Whole catalogs as rows: read at one moment, written elsewhere, on either database.
//!
//! Tables and columns are what the database says it has, so nothing has to be named here when a
//! migration adds one. Rows come in the order of the primary key, which both databases order alike
//! (by bytes), and a page at a time.

mod layout;
mod load;
mod snapshot;

pub use layout::{Column, Table};
pub use load::Loader;
pub use snapshot::Snapshot;

use crate::Statement;

/// The statements of this module.
pub(crate) const STATEMENTS: &[&Statement] = layout::STATEMENTS;
