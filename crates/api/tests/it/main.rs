//! The API through its own door: HTTP requests against a router over a real SQLite catalog.

mod account;
mod assets;
mod audit;
mod away;
mod cas;
mod coverage;
mod hunts;
mod idempotency;
mod inventory;
mod kit;
mod schedules;
mod scoped;
mod shards;
mod sinks;
mod sql;
mod statements;
mod unseen;
mod updates;
mod uploads;
mod users;
