//! What is wrong with an artifact's SQL, told by SQLite itself.

use muster_artifact::{Artifact, Platform, named_parameters};
use muster_types::{AgentKind, ColumnType};
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Statement};

use super::empty::{UNCONSTRAINED, register};
use super::facts::{Kind, tables};

/// Functions that osquery adds to SQLite's own, as far as artifacts use them, with their arguments.
const FUNCTIONS: [(&str, i32); 4] =
    [("regex_match", 3), ("split", 3), ("to_base64", 1), ("from_base64", 1)];

/// A platform's tables, all empty.
pub struct Checker {
    db: Connection,
}

impl Checker {
    pub fn new(platform: Platform) -> rusqlite::Result<Self> {
        let db = Connection::open_in_memory()?;
        for table in tables(platform) {
            register(&db, table)?;
        }
        for (name, arguments) in FUNCTIONS {
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
            db.create_scalar_function(name, arguments, flags, |_| Ok(None::<String>))?;
        }
        Ok(Self { db })
    }

    /// Everything that is wrong with the osquery source; empty also without such a source.
    pub fn problems(&self, artifact: &Artifact) -> Vec<String> {
        let Some(source) = artifact.sources.get(&AgentKind::Osquery) else { return Vec::new() };
        let mut problems = Vec::new();
        let used = named_parameters(&source.query);
        for parameter in &artifact.parameters {
            if !used.contains(&parameter.name.as_str()) {
                problems.push(format!("parameter {} is not used", parameter.name));
            }
        }
        match self.db.prepare(&source.query) {
            Ok(statement) => problems.extend(columns(artifact, &statement)),
            Err(error) => problems.push(error.to_string()),
        }
        problems.extend(self.plan(&source.query).unwrap_or_default());
        problems
    }

    fn plan(&self, query: &str) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.db.prepare(&format!("EXPLAIN QUERY PLAN {query}"))?;
        let steps = statement.query_map([], |row| row.get::<_, String>("detail"))?;
        let open = |step: &rusqlite::Result<String>| {
            step.as_ref().map_or(true, |step| step.contains(UNCONSTRAINED))
        };
        steps.filter(open).collect()
    }
}

fn columns(artifact: &Artifact, statement: &Statement<'_>) -> Vec<String> {
    let made = statement.columns();
    let mut problems = Vec::new();
    let names: Vec<&str> = made.iter().map(rusqlite::Column::name).collect();
    let declared: Vec<&str> = artifact.columns.iter().map(|c| c.name.as_str()).collect();
    if names != declared {
        problems.push(format!("gives {}; declares {}", names.join(" "), declared.join(" ")));
        return problems;
    }
    for (column, made) in artifact.columns.iter().zip(made) {
        let is = |kind: Kind| made.decl_type() == Some(kind.sql());
        let fits = match column.kind {
            // Agents send everything as text, so any text may hold a number or a time.
            ColumnType::Int | ColumnType::Bool => !is(Kind::Fraction),
            ColumnType::Float => true,
            ColumnType::Time => true,
            ColumnType::Text => !is(Kind::Whole) && !is(Kind::Fraction),
            ColumnType::Json | ColumnType::Bytes => made.decl_type().is_none_or(|_| is(Kind::Text)),
        };
        if !fits {
            let made = made.decl_type().unwrap_or("?");
            problems.push(format!("{} is {made}, declared {:?}", column.name, column.kind));
        }
    }
    problems
}
