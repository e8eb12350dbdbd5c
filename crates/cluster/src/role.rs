//! What an instance does.

use std::fmt;
use std::str::FromStr;

/// One thing an instance may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes agents' connections.
    Frontend,
    /// Folds shards into results, compacts, retains.
    Worker,
    /// Recruits for hunts, runs scheduled tasks.
    Scheduler,
    /// Serves people and programs.
    Api,
    /// Talks to other servers.
    Federation,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Frontend, Self::Worker, Self::Scheduler, Self::Api, Self::Federation];

    /// The name in configuration and catalog.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
            Self::Api => "api",
            Self::Federation => "federation",
        }
    }
}

/// Not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no role {0:?}; roles are frontend, worker, scheduler, api, federation and all")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

/// A set of roles; written as names with commas, or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Every role: what an instance does when nothing else is said.
    pub const ALL: Self = Self((1 << Role::ALL.len()) - 1);

    /// Whether the role is in the set.
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// The roles of the set.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |set, role| set | (1 << role as u8)))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        for (n, role) in self.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { "," }, role.name())?;
        }
        Ok(())
    }
}

impl FromStr for Roles {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        if text == "all" {
            return Ok(Self::ALL);
        }
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Role, Roles};

    #[test]
    fn names_round_trip() {
        for text in ["all", "worker", "frontend,api"] {
            assert_eq!(text.parse::<Roles>().unwrap().to_string(), text);
        }
        let two: Roles = [Role::Api, Role::Worker].into_iter().collect();
        assert_eq!(two.to_string(), "worker,api");
        assert!("worker,boss".parse::<Roles>().is_err());
    }
}
