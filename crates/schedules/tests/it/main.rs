//! Schedules through the crate, on real catalogs.

mod change;
mod common;
mod config;
