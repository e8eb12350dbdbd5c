//! The API for people and programs: REST under `/v1`, described by OpenAPI.
//!
//! - [`router`] serves it over an [`ApiState`]; [`openapi`] is its document.
//! - [`authorise`] is the one table of who may do what; [`audit`] the log of what was done.
//! - [`auth::bootstrap`] makes the first accounts, from beside the store.

pub mod audit;
pub mod auth;
pub mod authorise;
mod caller;
mod document;
mod extract;
mod gate;
pub mod grant;
mod idempotency;
mod page;
pub mod problem;
mod router;
mod state;
mod time;
pub mod tokens;
pub mod users;
pub mod version;

pub use gate::ClientAddress;
pub use page::Page;
pub use router::{openapi, router};
pub use state::{ApiState, Deps, Options};
pub use time::Time;

/// The statements of this crate, for the tests that prepare all of them on both databases.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    let mut all = audit::statements();
    for some in [auth::store::STATEMENTS, idempotency::STATEMENTS, users::STATEMENTS] {
        all.extend(some);
    }
    all.extend(tokens::STATEMENTS);
    all
}
