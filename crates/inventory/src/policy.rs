//! Policies: one question each, answered by every endpoint it applies to with pass, fail or unknown.
//!
//! A policy's SQL runs on the endpoint; it passes with one row or more. What became of it is a scheduled row
//! under the source `policy/<no>` in the table `policy_results`, so the state of today, the history
//! and the flips are all there for SQL, cut to what the asker may see.

mod memory;
mod model;
pub mod sql;
mod store;

pub use memory::Policies;
pub use model::{NewPolicy, Policy, PolicyError, PolicyNo, PolicyState};
pub(crate) use store::{STATEMENTS, read_since};
pub use store::{change, create, delete};

use std::sync::{Arc, LazyLock};

use muster_results::{RowClass, TableSpec};
use muster_types::{ColumnDecl, ColumnType};

/// The table of all policies' results.
pub const TABLE: &str = "policy_results";

/// Policies one organisation may have; agents ask all that apply in one go, and how
/// each stands is remembered per agent beside its schedules.
pub const POLICIES_MAX: usize = 150;

static SPEC: LazyLock<Arc<TableSpec>> = LazyLock::new(|| {
    let text = |name: &str| ColumnDecl { name: name.to_owned(), kind: ColumnType::Text };
    Arc::new(TableSpec {
        name: TABLE.to_owned(),
        class: RowClass::Scheduled,
        columns: vec![text("state"), text("message")],
        open: false,
    })
});

pub(crate) fn table() -> Arc<TableSpec> {
    Arc::clone(&SPEC)
}

/// The name under which a policy's results come.
#[must_use]
pub fn source(no: PolicyNo) -> String {
    format!("policy/{no}")
}

/// The policy whose results come under this name.
pub(crate) fn of_source(source: &str) -> Option<PolicyNo> {
    let digits = source.strip_prefix("policy/")?;
    let no: u32 = digits.parse().ok()?;
    // One spelling only: the name is the key of the state.
    (digits == no.to_string()).then_some(PolicyNo(no))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_its_policy_in_one_way() {
        assert_eq!(of_source(&source(PolicyNo(17))), Some(PolicyNo(17)));
        for other in ["policy/017", "policy/+17", "policy/", "policy/x", "17", "policy/4294967296"]
        {
            assert_eq!(of_source(other), None, "{other}");
        }
    }
}
