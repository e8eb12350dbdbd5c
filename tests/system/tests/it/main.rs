//! Whole servers, agents and fleets as users have them: each test its own folder and ports.

mod support;

mod accounts;
mod bad_config;
mod cluster;
mod crash;
mod first_hour;
mod full_disk;
mod hostile;
mod hunts;
mod import;
mod inventory;
mod join;
mod osquery;
mod osquery_fleet;
mod renew;
mod sinks;
