//! What is known of every endpoint: vitals, policies, labels by rule.

pub mod answers;
mod ask;
pub mod endpoint;
pub mod policies;
pub mod rules;

pub use ask::RuleSql;
