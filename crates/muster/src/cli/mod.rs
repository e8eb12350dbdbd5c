//! The command line.

pub mod output;
mod session;
