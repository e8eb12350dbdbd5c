//! What is found when a cluster is looked at.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It could not be found out; it is not known to be in order.
    Unverified,
    /// It works and will not for long, or costs something.
    Warning,
    /// What is promised does not hold.
    Fault,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unverified => "cannot be verified",
            Self::Warning => "warning",
            Self::Fault => "fault",
        })
    }
}

/// Something that is not in order, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A name that does not change, such as `nats-sync`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is the case.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn new(
        code: &'static str,
        severity: Severity,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { code, severity, text: text.into(), remedy: remedy.into() }
    }
}
