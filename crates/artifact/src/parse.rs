//! From YAML to a checked [`Artifact`].

use std::collections::BTreeSet;

use muster_types::AgentKind;

use crate::sql_text::named_parameters;
use crate::{Artifact, Parameter, ParameterKind};

/// Longest document that is read.
pub const MAX_YAML_BYTES: usize = 256 * 1024;
const MAX_COLUMNS: usize = 256;
const MAX_PARAMETERS: usize = 64;
const MAX_QUERY_BYTES: usize = 64 * 1024;
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

/// Names that the result table or the catalog uses itself.
const RESERVED_TABLES: [&str; 10] = [
    "agents",
    "endpoints",
    "hunts",
    "collections",
    "labels",
    "errors",
    "agent_log",
    "instances",
    "audit",
    "osquery_other",
];

/// Further ones, which an artifact that was stored by an earlier version may have.
const RESERVED_SINCE: [&str; 2] = ["policy_results", "upload_blocks"];

/// Why a document is no artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Too long to be one.
    #[error("artifact is {0} bytes long; the limit is {MAX_YAML_BYTES}")]
    TooLong(usize),
    /// Not YAML of this shape. The message names line and column where the parser knows them.
    #[error("{message}")]
    Yaml {
        /// What is wrong and where.
        message: String,
        /// Line, from 1.
        line: Option<usize>,
    },
    /// The right shape with a wrong value.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which field, as a path.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> ParseError {
    ParseError::Invalid { field: field.into(), problem: problem.into() }
}

/// Reads and checks one artifact.
///
/// # Errors
/// [`ParseError`] with the place and what to do.
pub fn parse(yaml: &str) -> Result<Artifact, ParseError> {
    if yaml.len() > MAX_YAML_BYTES {
        return Err(ParseError::TooLong(yaml.len()));
    }
    let artifact: Artifact = serde_norway::from_str(yaml).map_err(|error| ParseError::Yaml {
        line: error.location().map(|at| at.line()),
        message: error.to_string(),
    })?;
    check(&artifact)?;
    Ok(artifact)
}

fn check(artifact: &Artifact) -> Result<(), ParseError> {
    check_name(&artifact.name)?;
    if artifact.title.trim().is_empty() {
        return Err(invalid("title", "is empty; lists show it, so give a few words"));
    }
    check_parameters(&artifact.parameters)?;
    check_columns(artifact)?;
    check_sources(artifact)?;
    if artifact.limits.timeout_ms == 0 || artifact.limits.timeout_ms > MAX_TIMEOUT_MS {
        return Err(invalid("limits.timeout_ms", format!("must be from 1 to {MAX_TIMEOUT_MS}")));
    }
    if artifact.limits.rows == 0 {
        return Err(invalid("limits.rows", "must be at least 1"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ParseError> {
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_lowercase())
            && w.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if name.len() > 100 || !name.split('.').all(word) || !name.contains('.') {
        return Err(invalid(
            "name",
            format!(
                "{name:?} is no artifact name: two or more lower-case words joined by dots, for example linux.processes"
            ),
        ));
    }
    let table = crate::table_name(name);
    let taken = table.starts_with("hunt_") || table.ends_with("_current");
    if RESERVED_TABLES.contains(&table.as_str()) || taken {
        return Err(invalid("name", format!("{name:?} is reserved")));
    }
    Ok(())
}

/// Whether a new artifact may have this one's name: the server has tables of its own that names of earlier
/// artifacts may collide with, and those go on as they are.
///
/// # Errors
/// When it is taken.
pub fn check_new(artifact: &Artifact) -> Result<(), ParseError> {
    let table = artifact.table_name();
    if RESERVED_SINCE.contains(&table.as_str()) || table.starts_with("inventory_") {
        return Err(invalid("name", format!("{:?} is reserved", artifact.name)));
    }
    Ok(())
}

/// Whether `name` can be a column or parameter: a letter or underscore, then letters, digits, underscores.
fn is_identifier(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn check_parameters(parameters: &[Parameter]) -> Result<(), ParseError> {
    if parameters.len() > MAX_PARAMETERS {
        return Err(invalid("parameters", format!("are more than {MAX_PARAMETERS}")));
    }
    let mut seen = BTreeSet::new();
    for parameter in parameters {
        let field = format!("parameters.{}", parameter.name);
        if !is_identifier(&parameter.name) {
            return Err(invalid(field, "is no identifier (letters, digits, underscores)"));
        }
        if !seen.insert(parameter.name.to_ascii_lowercase()) {
            return Err(invalid(field, "is given twice"));
        }
        if (parameter.kind == ParameterKind::Choice) == parameter.choices.is_empty() {
            return Err(invalid(field, "type choice needs choices, and only it may have them"));
        }
        if parameter.required && parameter.default.is_some() {
            return Err(invalid(field, "is required and has a default; drop one of the two"));
        }
        if let (Some(min), Some(max)) = (parameter.min, parameter.max)
            && min > max
        {
            return Err(invalid(field, format!("min {min} is above max {max}")));
        }
        if let Some(default) = &parameter.default {
            crate::bind::convert(parameter, default)
                .map_err(|problem| invalid(format!("{field}.default"), problem))?;
        }
    }
    Ok(())
}

fn check_columns(artifact: &Artifact) -> Result<(), ParseError> {
    if artifact.columns.len() > MAX_COLUMNS {
        return Err(invalid("columns", format!("are more than {MAX_COLUMNS}")));
    }
    let mut seen = BTreeSet::new();
    for column in &artifact.columns {
        if !is_identifier(&column.name) || column.name.starts_with('_') {
            return Err(invalid(
                format!("columns.{}", column.name),
                "is no column name (a letter, then letters, digits, underscores)",
            ));
        }
        if !seen.insert(column.name.to_ascii_lowercase()) {
            return Err(invalid(
                format!("columns.{}", column.name),
                "is given twice (SQL does not tell case apart)",
            ));
        }
    }
    Ok(())
}

fn check_sources(artifact: &Artifact) -> Result<(), ParseError> {
    if artifact.sources.is_empty() {
        return Err(invalid("sources", "is empty; give at least one agent kind"));
    }
    for (kind, source) in &artifact.sources {
        let field = format!("sources.{kind}.query");
        if source.query.trim().is_empty() || source.query.len() > MAX_QUERY_BYTES {
            return Err(invalid(field, format!("must be from 1 to {MAX_QUERY_BYTES} bytes")));
        }
        if !matches!(kind, AgentKind::Native | AgentKind::Osquery) {
            continue;
        }
        for used in named_parameters(&source.query) {
            if artifact.parameters.iter().any(|p| p.name == used) {
                continue;
            }
            let near = artifact
                .parameters
                .iter()
                .map(|p| (strsim::damerau_levenshtein(&p.name, used), &p.name))
                .filter(|(distance, _)| *distance <= 2)
                .min();
            let hint = near.map_or_else(
                || "declare it under parameters".to_owned(),
                |(_, name)| format!("did you mean :{name}?"),
            );
            return Err(invalid(field, format!("uses :{used}, which is not declared; {hint}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
name: test.thing
title: A thing
parameters:
  - {name: path, type: text, required: true}
columns:
  - {name: path, type: text}
sources:
  native:
    query: SELECT path FROM file WHERE path = :path
";

    fn problem(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn a_good_one_is_read() {
        assert_eq!(parse(GOOD).unwrap().table_name(), "test_thing");
    }

    #[test]
    fn faults_are_named_with_their_place() {
        insta::assert_snapshot!(
            [
                problem("test.thing", "Thing"),
                problem("test.thing", "hunt.7"),
                problem("A thing", "''"),
                problem("type: text, required: true", "type: texd"),
                problem("type: text, required: true", "type: int, default: many"),
                problem("= :path", "= :paht"),
                problem("= :path", "= :other"),
                problem("title:", "titel:"),
                problem("native", "natvie"),
                problem(
                    "  - {name: path, type: text}",
                    "  - {name: a, type: int}\n  - {name: A, type: int}"
                ),
            ]
            .join("\n")
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[ -~\n]{0,200}") {
            let _ = parse(&text);
            let _ = parse(&format!("{GOOD}{text}"));
        }
    }
}
