//! Reading what other servers were configured with.
//!
//! [`osquery`] reads packs and whole configurations as osquery does, [`fleet`] the YAML of Fleet. Both
//! make a list of [`Wanted`] things and of [`Note`]s: what was changed or left out, on which line, and
//! why. Nothing is written here; whoever imports compares with what there is, so that doing it twice
//! changes nothing.

pub mod fleet;
pub mod json;
pub mod osquery;
mod query;
mod yaml;

use std::fmt;

use serde_json::{Map, Value};

/// Where something stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1; 0 when it is not known.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Something that was read, ready for the API.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What kind of thing.
    pub kind: Kind,
    /// Its name here.
    pub name: String,
    /// The body for the API.
    pub body: Map<String, Value>,
    /// Where it stood.
    pub place: Place,
}

/// Kinds of things that can be imported, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A label; with `hosts` those that carry it by hand.
    Label,
    /// A secret that agents enrol with.
    EnrolSecret,
    /// A query that is not scheduled: an artifact.
    Artifact,
    /// A schedule; its name is the reported one.
    Schedule,
    /// What makes a label follow the hosts where a schedule found something: `schedule` names it.
    LabelRule,
    /// A part of osquery's configuration.
    OsqueryConfig,
    /// A policy.
    Policy,
}

impl Kind {
    /// The word in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::EnrolSecret => "enrol secret",
            Self::Artifact => "artifact",
            Self::Schedule => "schedule",
            Self::LabelRule => "label rule",
            Self::OsqueryConfig => "osquery config",
            Self::Policy => "policy",
        }
    }
}

/// Something that is not imported, or not as it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether the thing is left out; else it is imported in another form.
    pub skipped: bool,
    /// What: kind and name.
    pub what: String,
    /// Why, or how it differs.
    pub reason: String,
    /// Where it stood.
    pub place: Place,
}

/// Everything that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// What shall be there, in the order in which it is made.
    pub wanted: Vec<Wanted>,
    /// What is not imported, or not as it stood.
    pub notes: Vec<Note>,
}

impl Import {
    pub(crate) fn skip(&mut self, what: impl Into<String>, reason: impl Into<String>, at: Place) {
        let (what, reason) = (what.into(), reason.into());
        self.notes.push(Note { skipped: true, what, reason, place: at });
    }

    pub(crate) fn changed(&mut self, what: impl Into<String>, how: impl Into<String>, at: Place) {
        let (what, reason) = (what.into(), how.into());
        self.notes.push(Note { skipped: false, what, reason, place: at });
    }

    /// Adds a thing; a second one of the same name is left out.
    pub(crate) fn want(&mut self, kind: Kind, name: &str, body: Map<String, Value>, at: Place) {
        let same = |one: &Wanted| one.kind == kind && one.name == name;
        if let Some(first) = self.wanted.iter().find(|one| same(one)) {
            let reason = format!("stands already at {}", first.place);
            return self.skip(format!("{} {name:?}", kind.as_str()), reason, at);
        }
        self.wanted.push(Wanted { kind, name: name.to_owned(), body, place: at });
    }

    /// Puts everything into the order in which it is made.
    pub(crate) fn finish(mut self) -> Self {
        self.wanted.sort_by_key(|one| one.kind);
        self.notes.sort_by(|a, b| a.place.cmp(&b.place));
        self
    }
}

/// Why a file cannot be imported at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Unreadable {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub problem: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write;

    use super::*;

    /// The whole report, a line a thing.
    pub(crate) fn report(import: &Import) -> String {
        let mut out = String::new();
        for one in &import.wanted {
            let body = Value::Object(one.body.clone());
            writeln!(out, "{} {} {:?} {body}", one.place, one.kind.as_str(), one.name).unwrap();
        }
        for note in &import.notes {
            let word = if note.skipped { "skipped" } else { "changed" };
            writeln!(out, "{} {word} {}: {}", note.place, note.what, note.reason).unwrap();
        }
        out
    }
}
