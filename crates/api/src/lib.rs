//! The API for people and programs: REST under `/v1`, described by OpenAPI.
//!
//! - [`router`] serves it over an [`ApiState`]; [`openapi`] is its document.
//! - [`authorise`] is the one table of who may do what; [`audit`] the log of what was done.
//! - [`auth::bootstrap`] makes the first accounts, from beside the store.

pub mod approvals;
pub mod artifacts;
pub mod assets;
pub mod audit;
pub mod auth;
pub mod authorise;
mod caller;
pub mod cas;
pub mod debug;
pub mod doctor;
mod document;
pub mod endpoints;
pub mod enrol_secrets;
mod extract;
mod gate;
pub mod grant;
pub mod hunts;
mod idempotency;
pub mod instances;
pub mod inventory;
pub mod labels;
mod length;
pub mod live;
pub mod node_keys;
pub mod osquery_config;
pub mod osquery_yara;
mod page;
pub mod problem;
mod router;
pub mod schedules;
mod scope;
pub mod shards;
pub mod sinks;
pub mod sql;
mod state;
pub mod stats;
pub mod storage;
mod time;
pub mod tokens;
mod updates;
pub mod uploads;
pub mod users;
pub mod version;

pub use auth::requests::RequestRate;
pub use gate::{ClientAddress, Through};
pub use page::Page;
pub use router::{openapi, router};
pub use scope::Scope;
pub use sql::SqlOptions;
pub use state::{ApiState, Deps, Diagnose, Options};
pub use time::Time;

/// The statements of this crate, for the tests that prepare all of them on both databases.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    let own = [
        approvals::STATEMENTS,
        artifacts::STATEMENTS,
        assets::STATEMENTS,
        auth::allowance::STATEMENTS,
        auth::store::STATEMENTS,
        idempotency::STATEMENTS,
        instances::STATEMENTS,
        labels::STATEMENTS,
        schedules::STATEMENTS,
        shards::STATEMENTS,
        storage::STATEMENTS,
        tokens::STATEMENTS,
        users::STATEMENTS,
    ];
    [own.concat(), audit::statements(), hunts::statements()].concat()
}
