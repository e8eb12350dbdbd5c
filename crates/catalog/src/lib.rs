//! The catalog plane: small mutable facts, transactional, in SQLite (embedded) or PostgreSQL.
//!
//! One SQL text serves both databases. Every crate keeps its statements beside the domain that
//! owns them, in a [`statements!`] block, and runs them through [`Catalog`] (reads) and [`Tx`]
//! (writes). On SQLite all writes go through one writer task with priorities and group commit; a
//! commit that returned `Ok` is on disk.
//!
//! Rules that hold on both databases:
//! - After any failed statement a [`Tx`] is spent: only rolling back is left.
//! - A read-modify-write is one compare-and-set statement: PostgreSQL runs READ COMMITTED.
//! - Booleans are INTEGER 0 or 1, times are microseconds UTC, text orders by bytes.

mod calls;
pub mod check;
pub mod compat;
pub mod conformance;
pub mod copy;
mod error;
mod feed;
mod migrate;
mod options;
mod postgres;
mod row;
mod sqlite;
mod statement;
mod stats;
mod store;
mod tx;
mod value;

pub use error::Error;
pub use migrate::{Applied, LEVEL, Migration, MigrationKind, Older, Program, Status};
pub use options::{Database, Options};
pub use row::{FromValue, Row};
pub use statement::{Statement, parameter_count};
pub use stats::{Pool, Stats};
pub use store::Catalog;
pub use tx::{Priority, Tx};
pub use value::{Args, Kind, SqlType, Value};

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static Statement> {
    let own =
        [feed::STATEMENTS, compat::STATEMENTS, copy::STATEMENTS, postgres::STATEMENTS].concat();
    [own, migrate::statements(), conformance::ALL.concat()].concat()
}
