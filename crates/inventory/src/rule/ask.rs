//! What a rule needs of those who can answer SQL.

use async_trait::async_trait;
use muster_types::{Access, OrgId};

/// Why a rule has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The rule is at fault.
    #[error("{0}")]
    Query(String),
    /// Its owner may not ask any more.
    #[error("{0}")]
    Owner(String),
    /// We are at fault; it is asked again.
    #[error("the rule could not be asked: {0}")]
    Unavailable(String),
}

/// Answers SQL within what somebody may see.
#[async_trait]
pub trait Ask: Send + Sync {
    /// What a user may see now.
    ///
    /// # Errors
    /// [`AskError::Owner`] when the account is gone or disabled.
    async fn access(&self, org: OrgId, user_no: i64) -> Result<Access, AskError>;

    /// The rows of a query with two whole-numbered columns; NULLs make no row.
    ///
    /// # Errors
    /// [`AskError::Query`] when the query is refused or has more than `rows_max` rows.
    async fn pairs(
        &self,
        access: &Access,
        sql: &str,
        rows_max: u64,
    ) -> Result<Vec<(i64, i64)>, AskError>;
}
