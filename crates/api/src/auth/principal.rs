//! The one who asks, with what was granted.

use muster_types::{OrgId, Role, ScopeSpec, Timestamp};

/// What stands behind a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// From signing in with a password.
    Session,
    /// Made by a person for a program.
    Token,
    /// Made by `muster up` for the user who started it.
    Local,
}

impl Credential {
    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
            Self::Local => "local",
        }
    }

    /// The credential of a stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Session, Self::Token, Self::Local].into_iter().find(|it| it.as_str() == word)
    }
}

/// A role on a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub role: Role,
    /// With which endpoints: everything, or by labels.
    pub scope: ScopeSpec,
}

/// An authenticated caller. Roles are already lowered to what the token allows.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Number of the user.
    pub user_no: i64,
    /// Their organisation.
    pub org: OrgId,
    /// Their name, as it stands in hunts and in the audit log.
    pub name: String,
    /// Which credential was shown.
    pub token_no: i64,
    /// Of what kind it is.
    pub credential: Credential,
    /// A one-time password was used: nothing but changing it is open.
    pub must_change: bool,
    /// When the credential ends.
    pub expires_at: Option<Timestamp>,
    /// What was granted.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// Whether the role, or a higher one, is held on anything.
    #[must_use]
    pub fn holds(&self, role: Role) -> bool {
        self.grants.iter().any(|grant| grant.role >= role)
    }

    /// Whether the role, or a higher one, is held on everything.
    #[must_use]
    pub fn holds_everywhere(&self, role: Role) -> bool {
        self.grants.iter().any(|grant| grant.role >= role && grant.scope == ScopeSpec::all())
    }

    /// The scopes on which the role, or a higher one, is held.
    #[must_use]
    pub fn scopes(&self, role: Role) -> Vec<ScopeSpec> {
        self.grants
            .iter()
            .filter(|grant| grant.role >= role)
            .map(|grant| grant.scope.clone())
            .collect()
    }

    /// The highest role held on anything.
    #[must_use]
    pub fn highest(&self) -> Option<Role> {
        self.grants.iter().map(|grant| grant.role).max()
    }

    /// Key of this caller for idempotent requests.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.org, self.user_no)
    }
}
