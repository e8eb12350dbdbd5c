//! Operating systems, as far as artifacts tell them apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an artifact's sources are written for, in the words of an endpoint's `platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// All distributions.
    Linux,
    /// macOS.
    #[serde(alias = "macos")]
    Darwin,
    /// Windows.
    Windows,
}

impl Platform {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Linux, Self::Darwin, Self::Windows];

    /// The word used in YAML and by endpoints.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Darwin => "darwin",
            Self::Windows => "windows",
        }
    }

    /// The platform of an endpoint's word; `None` for one that artifacts do not know.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let same = |platform: &Self| platform.as_str().eq_ignore_ascii_case(word);
        Self::ALL.into_iter().find(same)
    }

    /// The name people use.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Darwin => "macOS",
            Self::Windows => "Windows",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::of(word)
            .ok_or_else(|| format!("unknown platform {word:?}; known are linux, darwin, windows"))
    }
}

impl crate::Artifact {
    /// Whether it is meant for an endpoint of this platform. One whose platform is not known may
    /// try: the agent itself says best what it lacks.
    #[must_use]
    pub fn is_for(&self, platform: &str) -> bool {
        let known = Platform::of(platform);
        self.platforms.is_empty() || known.is_none_or(|known| self.platforms.contains(&known))
    }
}

#[cfg(test)]
mod tests {
    use crate::Platform;

    #[test]
    fn an_artifact_is_for_its_platforms_and_for_unknown_ones() {
        let of = |platforms: &str| {
            crate::parse(&format!(
                "name: a.b\ntitle: t\nplatforms: {platforms}\ncolumns: [{{name: x, type: int}}]\n\
                 sources: {{osquery: {{query: SELECT 1 AS x}}}}"
            ))
            .unwrap()
        };
        let mac = of("[macos, windows]");
        assert!(mac.is_for("darwin") && mac.is_for("Windows") && !mac.is_for("linux"));
        assert!(mac.is_for("") && mac.is_for("freebsd"));
        assert!(of("[]").is_for("linux"));
        assert!(Platform::ALL.iter().all(|one| Platform::of(one.as_str()) == Some(*one)));
    }
}
