//! Whole servers, agents and fleets as users have them: each test its own folder and ports.

mod support;

mod accounts;
mod bad_config;
mod busy;
mod cluster;
mod copies;
mod crash;
mod debug_archive;
mod delivery;
mod doctor;
mod first_hour;
mod formats;
mod full_disk;
mod hostile;
mod hunts;
mod import;
mod inventory;
mod join;
mod limits;
mod load;
mod metrics;
mod nats;
mod osquery;
mod osquery_fleet;
mod outages;
mod pages;
mod proxies;
mod renew;
mod rolling;
mod seats;
mod sinks;
mod stranger;
mod takeover;
mod upgrades;
mod zombies;
