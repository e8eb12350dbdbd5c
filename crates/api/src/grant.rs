//! Roles on scopes, as the API shows and takes them.

use muster_types::{Role, ScopeSpec};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::principal;
use crate::extract::nearest;
use crate::problem::{Problem, Result};

/// Grants one user may have.
const GRANTS_MAX: usize = 64;
const LABELS_MAX: usize = 64;

/// A role on everything, or on the endpoints that carry one of these labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoleGrant)]
pub struct Grant {
    /// `viewer`, `analyst`, `responder` or `administrator`; each may do what those before may.
    #[schema(example = "analyst")]
    pub role: String,
    /// Empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl From<&principal::Grant> for Grant {
    fn from(grant: &principal::Grant) -> Self {
        Self { role: grant.role.to_string(), labels: grant.scope.labels.clone() }
    }
}

/// Reads a role, with a suggestion when it is misspelt.
///
/// # Errors
/// 422 naming the roles.
pub fn role(at: &str, word: &str) -> Result<Role> {
    word.parse().map_err(|message: String| {
        let near = nearest(word, Role::ALL.iter().map(|role| role.as_str()));
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Problem::invalid(at, format!("{message}{hint}"))
    })
}

/// Reads what is to be granted.
///
/// # Errors
/// 422 naming the place.
pub fn read(grants: &[Grant]) -> Result<Vec<principal::Grant>> {
    if grants.len() > GRANTS_MAX {
        return Err(Problem::invalid("/roles", format!("more than {GRANTS_MAX} roles")));
    }
    let read_one = |(n, grant): (usize, &Grant)| {
        if grant.labels.len() > LABELS_MAX {
            let at = format!("/roles/{n}/labels");
            return Err(Problem::invalid(at, format!("more than {LABELS_MAX} labels")));
        }
        let role = role(&format!("/roles/{n}/role"), &grant.role)?;
        let mut labels = grant.labels.clone();
        labels.sort();
        labels.dedup();
        Ok(principal::Grant { role, scope: ScopeSpec { labels, ..ScopeSpec::all() } })
    };
    grants.iter().enumerate().map(read_one).collect()
}
