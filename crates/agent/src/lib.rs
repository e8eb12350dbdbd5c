//! The endpoint's side: tables over SQL, queries in a child process, the link to the server.

pub mod buffer;
mod functions;
mod glob;
mod plan;
pub mod query;
pub mod table;
pub mod tables;
mod vtab;
mod warnings;

pub use warnings::Warnings;
