//! What tests share: real servers and stores, each test its own.

mod catalog;
mod postgres;
mod server;

pub use catalog::TempCatalog;
pub use postgres::{Postgres, free_port};
pub use server::{Server, ServerOptions, binary, steady_port, wait_for};
