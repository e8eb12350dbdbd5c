//! What is shared with the other tests of the whole system.

#[path = "../it/support/ask.rs"]
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod ask;
#[path = "../it/support/fleet.rs"]
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod fleet;
#[path = "../it/support/osquery_fleet.rs"]
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod osquery_fleet;

pub use ask::{Ask, Coverage, has_sql};
pub use fleet::Fleet;
pub use osquery_fleet::OsqueryFleet;

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
