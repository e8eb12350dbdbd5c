//! Labels by rule: a label's members are what a SELECT answers, asked anew every minute.
//!
//! A rule is asked with what its owner may see, by the same child process as everybody's SQL. Its
//! answer needs a column `endpoint`; numbers outside the owner's reach count for nothing. A rule that
//! fails keeps its members and shows the error. Who came and went is kept for a year.

mod ask;
mod evaluator;
mod members;
mod store;

pub use ask::{Ask, AskError};
pub use evaluator::Evaluator;
pub use members::{members, together};
pub use store::{Rule, RuleChange, RuleError, find, history, list, remove, remove_deleted, set};

/// Rules one organisation may have.
pub const RULES_MAX: usize = 200;

pub(crate) fn statements() -> Vec<&'static muster_catalog::Statement> {
    store::STATEMENTS.to_vec()
}

/// Checks the text of a rule as far as it can be without asking it.
///
/// # Errors
/// [`RuleError::Query`].
pub fn checked(query: &str) -> Result<&str, RuleError> {
    const BYTES_MAX: usize = 64 * 1024;
    let query = query.trim().trim_end_matches(';').trim_end();
    if query.is_empty() || query.len() > BYTES_MAX {
        let problem =
            format!("write one SELECT of 1 to {BYTES_MAX} bytes with a column `endpoint`");
        return Err(RuleError::Query(problem));
    }
    Ok(query)
}
