//! "did you mean": the nearest known name to one that SQLite does not know.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::table::SharedTable;

/// Names less like the wrong one than this are no help.
const LIKENESS_MIN: f64 = 0.75;

/// `; did you mean processes?`, or nothing.
pub(crate) fn did_you_mean(
    message: &str,
    sql: &str,
    db: &Connection,
    tables: &[SharedTable],
) -> String {
    let unknown = |prefix: &str| message.split_once(prefix).map(|(_, name)| name.trim());
    let found = if let Some(name) = unknown("no such table: ") {
        nearest(name, tables.iter().map(|table| table.name().to_owned()))
    } else if let Some(name) = unknown("no such column: ") {
        // SQLite may add why it took a text for a column.
        let name = name.split(" - ").next().unwrap_or(name);
        nearest(name, columns(sql, tables))
    } else if let Some(name) = unknown("no such function: ") {
        nearest(name, functions(db))
    } else {
        None
    };
    found.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The columns of the tables that the statement names.
fn columns(sql: &str, tables: &[SharedTable]) -> impl Iterator<Item = String> {
    let words: BTreeSet<String> = sql
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .map(str::to_ascii_lowercase)
        .collect();
    let named = tables.iter().filter(move |table| words.contains(table.name()));
    named.flat_map(|table| table.columns().iter().map(|column| column.name.to_owned()))
}

fn functions(db: &Connection) -> Vec<String> {
    let list = || -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare("SELECT DISTINCT name FROM pragma_function_list")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    list().unwrap_or_default()
}

fn nearest(wrong: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    // `p.nmae`: the alias stays out of it.
    let wrong = wrong.rsplit('.').next().unwrap_or(wrong).trim_matches(['"', '`', '[', ']']);
    let wrong = wrong.to_ascii_lowercase();
    let likeness = |name: &str| {
        let jaro = strsim::jaro_winkler(&wrong, name);
        // Typing errors: one slip in a short name is near, whatever Jaro thinks of its place.
        let slips = strsim::damerau_levenshtein(&wrong, name) as f64;
        jaro.max(1.0 - slips / name.len().max(1) as f64)
    };
    known
        .into_iter()
        .map(|name| (likeness(&name), name))
        .filter(|(likeness, name)| *likeness >= LIKENESS_MIN && *name != wrong)
        .max_by(|(a, left), (b, right)| a.total_cmp(b).then_with(|| right.cmp(left)))
        .map(|(_, name)| name)
}
