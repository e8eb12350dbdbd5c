//! SQL for the labels that follow a rule.

use std::time::Duration;

use async_trait::async_trait;
use muster_inventory::rule::{Ask, AskError};
use muster_types::{Access, OrgId, Role, ScopeSpec};

use crate::auth::store;
use crate::problem::Code;
use crate::sql::{Format, Question, Rows, collect};
use crate::state::ApiState;

/// Time for one pass over some rules.
const TIME: Duration = Duration::from_secs(30);
/// A line of two numbers, at most.
const LINE_BYTES: u64 = 42;

/// Asks rules through the child process that answers everybody's SQL.
#[derive(Clone, Debug)]
pub struct RuleSql(ApiState);

impl RuleSql {
    /// With the API's own child processes and limits.
    #[must_use]
    pub fn new(state: ApiState) -> Self {
        Self(state)
    }
}

#[async_trait]
impl Ask for RuleSql {
    async fn access(&self, org: OrgId, user_no: i64) -> Result<Access, AskError> {
        let away = |error: muster_catalog::Error| AskError::Unavailable(error.to_string());
        let active = store::is_active(&self.0.catalog, org, user_no).await.map_err(away)?;
        if !active {
            let why = "the owner of this rule may no longer sign in; set the rule anew";
            return Err(AskError::Owner(why.to_owned()));
        }
        let grants = store::grants_of(&self.0.catalog, user_no).await.map_err(away)?;
        let scopes: Vec<ScopeSpec> = grants
            .into_iter()
            .filter(|grant| grant.role >= Role::Viewer)
            .map(|grant| grant.scope)
            .collect();
        if scopes.is_empty() {
            let why = "the owner of this rule sees nothing any more; set the rule anew";
            return Err(AskError::Owner(why.to_owned()));
        }
        Ok(self.0.directory.snapshot().access(org, &scopes, &self.0.presence))
    }

    async fn pairs(
        &self,
        access: &Access,
        sql: &str,
        rows_max: u64,
    ) -> Result<Vec<(i64, i64)>, AskError> {
        let question = Question {
            sql: sql.to_owned(),
            access: access.clone(),
            format: Format::Csv,
            time: Some(TIME),
            // One more tells that there are too many.
            rows: Rows::AtMost(rows_max.saturating_add(1)),
            subject: "label rules".into(),
        };
        let bytes_max = usize::try_from(rows_max * LINE_BYTES + 1_024).unwrap_or(usize::MAX);
        let answer = collect(&self.0, None, question, bytes_max).await.map_err(|problem| {
            let words = problem.detail().to_owned();
            match problem.code() {
                Code::InvalidQuery | Code::QueryTimeout | Code::QueryMemory => {
                    AskError::Query(words)
                }
                _ => AskError::Unavailable(words),
            }
        })?;
        let pairs = read(&answer)?;
        if pairs.len() as u64 > rows_max {
            return Err(AskError::Query(format!("the answer has more than {rows_max} rows")));
        }
        Ok(pairs)
    }
}

/// Two numbers a line, behind a header.
fn read(csv: &[u8]) -> Result<Vec<(i64, i64)>, AskError> {
    let text = String::from_utf8_lossy(csv);
    let pair = |line: &str| {
        let (a, b) = line.trim_end().split_once(',')?;
        Some((a.parse().ok()?, b.parse().ok()?))
    };
    let broken = |line: &str| AskError::Unavailable(format!("{line:?} is no pair of numbers"));
    let lines = text.lines().skip(1).filter(|line| !line.trim_end().ends_with(','));
    lines.map(|line| pair(line).ok_or_else(|| broken(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_from_behind_the_header() {
        assert_eq!(read(b"rule,endpoint\n0,7\n1,12\n1,\n").unwrap(), [(0, 7), (1, 12)]);
        assert!(matches!(read(b"rule,endpoint\nx,7\n"), Err(AskError::Unavailable(_))));
    }
}
