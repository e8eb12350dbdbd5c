//! What tests share: real servers and stores, each test its own.

mod catalog;
mod postgres;

pub use catalog::TempCatalog;
pub use postgres::{Postgres, free_port};
