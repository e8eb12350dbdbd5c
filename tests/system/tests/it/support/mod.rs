//! What the tests share.

mod agent;
mod ask;
mod balancer;
mod fleet;
mod forgetful;
mod http;
mod osquery_fleet;
mod osqueryd;
mod relays;
mod yard;

pub use agent::{AgentProcess, companion};
pub use ask::{Ask, Coverage, Told, has_sql};
pub use balancer::{Balancer, Kind};
pub use fleet::Fleet;
pub use forgetful::Forgetful;
pub use http::{post, roots};
pub use osquery_fleet::OsqueryFleet;
pub use osqueryd::Osqueryd;
pub use relays::Relays;
pub use yard::Yard;

use std::time::Duration;

/// Long enough for anything on a busy machine; never reached when all is well.
pub const SOON: Duration = Duration::from_secs(60);

/// A seed, printed so that a failure can be repeated with `MUSTER_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("MUSTER_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("MUSTER_SEED={seed}");
    seed
}
