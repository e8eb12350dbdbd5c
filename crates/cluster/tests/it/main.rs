//! The cluster, on SQLite and on a real PostgreSQL.

mod clashes;
mod failover;
mod feed;
mod formats;
mod leases;
mod limits;
mod safety;
mod secrets;
mod support;
