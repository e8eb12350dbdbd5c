//! Artifacts: named, parameterised definitions of what to collect.
//!
//! An artifact is a YAML document. It declares its parameters and result columns with types, and
//! says for each agent kind what that agent has to run. [`parse`] checks a document completely, so
//! that whoever holds an [`Artifact`] can use it without further doubts; [`Artifact::bind`] does the
//! same for the values of one run. No I/O, no runtime: parsers, tests and fuzzers use it alike.

mod bind;
mod builtin;
mod model;
mod parse;
mod platform;
mod sql_text;

pub use bind::{BindError, Bound, Value};
pub use builtin::{builtin, builtin_yaml, find_builtin};
pub use model::{
    Artifact, Column, Parameter, ParameterKind, RowClass, Source, SourceLimits, table_name,
};
pub use parse::{MAX_YAML_BYTES, ParseError, check_new, parse};
pub use platform::Platform;
pub use sql_text::{SqlParams, named_parameters, render_sql};
