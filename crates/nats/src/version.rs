//! Versions of NATS servers.

use std::fmt;

/// A server's version; only what can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The oldest whose clusters check on all replicas alike which message a sender expects to be the
    /// last of a subject.
    pub const OLDEST: Self = Self(2, 11, 0);

    /// Reads `2.15.1` or `2.12.0-RC.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let mut numbers = text.split(['.', '-', '+']).map_while(|number| number.parse().ok());
        Some(Self(numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(Version::parse("2.15.1"), Some(Version(2, 15, 1)));
        assert_eq!(Version::parse("v2.12.0-RC.1"), Some(Version(2, 12, 0)));
        assert_eq!(Version::parse("new"), None);
        assert!(Version(2, 9, 22) < Version::OLDEST);
    }
}
