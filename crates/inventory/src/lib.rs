//! What is known of every endpoint: vitals, users, software, policies, and labels by rule.
//!
//! - [`Inventory`] says, from memory, which agent is due for its questions of the hour and which those
//!   are ([`Query`]): the built-in [`details`] and the policies that apply to it. Gateways of agents
//!   that poll ask it; answers are scheduled rows like any other, and their current state is read by
//!   SQL from `inventory_…_current` and `policy_results_current`.
//! - [`policy`] keeps policies: questions whose answer is pass, fail or unknown.
//! - [`rule`] keeps labels that follow a SELECT; [`rule::Evaluator`] re-reads them under a lease.

mod blocks;
mod detail;
mod inventory;
mod pace;
pub mod policy;
pub mod refetch;
mod rounds;
pub mod rule;
mod service;
pub mod sql;

pub use detail::{Detail, Source, details, scheduled_details};
pub use inventory::{Asked, Deps, Due, Inventory, Query, Why};
pub use muster_artifact::Platform;

/// Every table of this crate, so that SQL knows them before their first row.
#[must_use]
pub fn tables() -> Vec<std::sync::Arc<muster_results::TableSpec>> {
    let mut tables: Vec<_> = details().iter().map(Detail::table_spec).collect();
    tables.push(policy::table());
    tables
}

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    let own =
        [blocks::STATEMENTS, policy::STATEMENTS, refetch::STATEMENTS, service::STATEMENTS].concat();
    [own, rule::statements()].concat()
}
