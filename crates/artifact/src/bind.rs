//! From the values of one run to typed parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Artifact, Parameter, ParameterKind};

/// A checked value. As JSON it is the plain value, so it can travel in a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// No value given.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number; also seconds since 1970 for `time`.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

/// Values for all parameters of an artifact, checked.
pub type Bound = BTreeMap<String, Value>;

/// Why values do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// No such parameter.
    #[error("{artifact} has no parameter {name:?}{hint}")]
    Unknown {
        /// The artifact.
        artifact: String,
        /// What was given.
        name: String,
        /// What may have been meant, or what there is.
        hint: String,
    },
    /// A required one is missing.
    #[error("{artifact} needs the parameter {name:?} ({kind})")]
    Missing {
        /// The artifact.
        artifact: String,
        /// Which.
        name: String,
        /// Its type.
        kind: &'static str,
    },
    /// A value does not fit its type or bounds.
    #[error("parameter {name:?}: {problem}")]
    Value {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl Artifact {
    /// Checks values given by name against the declared parameters and fills in defaults.
    ///
    /// # Errors
    /// [`BindError`] for an unknown, missing or ill-typed one.
    pub fn bind(&self, given: &BTreeMap<String, serde_json::Value>) -> Result<Bound, BindError> {
        if let Some(name) = given.keys().find(|name| self.parameter(name).is_none()) {
            return Err(self.unknown(name));
        }
        let mut bound = Bound::new();
        for parameter in &self.parameters {
            let value = match given.get(&parameter.name).or(parameter.default.as_ref()) {
                Some(value) => convert(parameter, value).map_err(|problem| BindError::Value {
                    name: parameter.name.clone(),
                    problem,
                })?,
                None if parameter.required => {
                    return Err(BindError::Missing {
                        artifact: self.name.clone(),
                        name: parameter.name.clone(),
                        kind: parameter.kind.as_str(),
                    });
                }
                None => Value::Null,
            };
            bound.insert(parameter.name.clone(), value);
        }
        Ok(bound)
    }

    fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }

    fn unknown(&self, name: &str) -> BindError {
        let near = self
            .parameters
            .iter()
            .map(|p| (strsim::damerau_levenshtein(&p.name, name), p.name.as_str()))
            .min();
        let hint = match near {
            Some((distance, near)) if distance <= 2 => format!("; did you mean {near:?}?"),
            Some(_) => {
                let names: Vec<_> = self.parameters.iter().map(|p| p.name.as_str()).collect();
                format!("; it has {}", names.join(", "))
            }
            None => "; it takes none".to_owned(),
        };
        BindError::Unknown { artifact: self.name.clone(), name: name.to_owned(), hint }
    }
}

/// Converts one value. Text is accepted for every type, because command lines only have text.
pub(crate) fn convert(parameter: &Parameter, value: &serde_json::Value) -> Result<Value, String> {
    use serde_json::Value as Json;
    let kind = parameter.kind;
    let mismatch = || format!("{value} is no {}", kind.as_str());
    let converted = match (kind, value) {
        (_, Json::Null) => Value::Null,
        (ParameterKind::Text, Json::String(s)) => Value::Text(s.clone()),
        (ParameterKind::Text, Json::Number(n)) => Value::Text(n.to_string()),
        (ParameterKind::Choice, Json::String(s)) => {
            if !parameter.choices.contains(s) {
                return Err(format!("{s:?} is none of {}", parameter.choices.join(", ")));
            }
            Value::Text(s.clone())
        }
        (ParameterKind::Int, Json::Number(n)) => Value::Int(n.as_i64().ok_or_else(mismatch)?),
        (ParameterKind::Int, Json::String(s)) => Value::Int(s.parse().map_err(|_| mismatch())?),
        (ParameterKind::Float, Json::Number(n)) => Value::Float(n.as_f64().ok_or_else(mismatch)?),
        (ParameterKind::Float, Json::String(s)) => {
            let number: f64 = s.parse().map_err(|_| mismatch())?;
            Value::Float(Some(number).filter(|n| n.is_finite()).ok_or_else(mismatch)?)
        }
        (ParameterKind::Bool, Json::Bool(b)) => Value::Bool(*b),
        (ParameterKind::Bool, Json::String(s)) if s == "true" || s == "1" => Value::Bool(true),
        (ParameterKind::Bool, Json::String(s)) if s == "false" || s == "0" => Value::Bool(false),
        (ParameterKind::Time, Json::Number(n)) => Value::Int(n.as_i64().ok_or_else(mismatch)?),
        (ParameterKind::Time, Json::String(s)) => Value::Int(seconds(s).ok_or_else(|| {
            format!("{s:?} is no time; give RFC 3339 (2026-01-31T12:00:00Z) or seconds since 1970")
        })?),
        _ => return Err(mismatch()),
    };
    check_bounds(parameter, &converted)?;
    Ok(converted)
}

fn check_bounds(parameter: &Parameter, value: &Value) -> Result<(), String> {
    let (size, what) = match value {
        Value::Int(n) => (*n as f64, "the value"),
        Value::Float(n) => (*n, "the value"),
        Value::Text(text) => (text.chars().count() as f64, "the length"),
        Value::Null | Value::Bool(_) => return Ok(()),
    };
    if let Some(min) = parameter.min.filter(|min| size < *min) {
        return Err(format!("{what} {size} is below {min}"));
    }
    if let Some(max) = parameter.max.filter(|max| size > *max) {
        return Err(format!("{what} {size} is above {max}"));
    }
    Ok(())
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<i64>()
        .ok()
        .or_else(|| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact() -> Artifact {
        crate::parse(
            "
name: test.bind
title: t
parameters:
  - {name: path, type: text, required: true, max: 5}
  - {name: depth, type: int, default: 3, min: 1, max: 9}
  - {name: since, type: time}
  - {name: mode, type: choice, choices: [fast, full], default: fast}
columns: [{name: a, type: int}]
sources: {native: {query: SELECT 1 AS a}}
",
        )
        .unwrap()
    }

    fn bind(values: serde_json::Value) -> Result<Bound, String> {
        let map = serde_json::from_value(values).unwrap();
        artifact().bind(&map).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_and_text_forms_are_taken() {
        let bound = bind(json!({"path": "/etc", "depth": "7", "since": "1970-01-01T00:01:00Z"}));
        let bound = bound.unwrap();
        assert_eq!(bound["depth"], Value::Int(7));
        assert_eq!(bound["since"], Value::Int(60));
        assert_eq!(bound["mode"], Value::Text("fast".into()));
        assert_eq!(bind(json!({"path": "/"})).unwrap()["since"], Value::Null);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let problems: Vec<_> = [
            json!({}),
            json!({"path": "/", "dept": 3}),
            json!({"path": "/", "colour": 3}),
            json!({"path": "/too/long"}),
            json!({"path": "/", "depth": 10}),
            json!({"path": "/", "depth": "x"}),
            json!({"path": "/", "since": "yesterday"}),
            json!({"path": "/", "mode": "slow"}),
        ]
        .into_iter()
        .map(|values| bind(values).unwrap_err())
        .collect();
        insta::assert_snapshot!(problems.join("\n"));
    }
}
