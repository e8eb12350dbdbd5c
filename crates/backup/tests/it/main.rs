//! Copies between real stores: SQLite, PostgreSQL, folders, S3.

mod kit;

mod backup;
mod prune;
mod relocate;
mod shards;
