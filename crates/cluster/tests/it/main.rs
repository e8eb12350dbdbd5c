//! The cluster, on SQLite and on a real PostgreSQL.

mod feed;
mod leases;
mod safety;
mod secrets;
mod support;
