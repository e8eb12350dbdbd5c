//! Every question is checked by SQLite itself, over empty tables with the columns osquery has.

use std::fmt::Write as _;

use muster_inventory::{Platform, details};
use rusqlite::Connection;

/// A platform's tables, empty. A line is `table: column:type …`, and goes on where it is indented.
fn tables(platform: Platform) -> Connection {
    let text = match platform {
        Platform::Linux => include_str!("../../../artifact/schema/linux.txt"),
        Platform::Darwin => include_str!("../../../artifact/schema/darwin.txt"),
        Platform::Windows => include_str!("../../../artifact/schema/windows.txt"),
    };
    let mut sql = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns = match line.split_once(": ") {
            Some((table, columns)) if !line.starts_with(' ') => {
                let end = if sql.is_empty() { "" } else { ");\n" };
                let _ = write!(sql, "{end}CREATE TABLE {table} (");
                columns
            }
            _ => line,
        };
        for column in columns.split_whitespace() {
            let comma = if sql.ends_with('(') { "" } else { ", " };
            let name = column.split(':').next().unwrap_or_default();
            let _ = write!(sql, "{comma}\"{name}\"");
        }
    }
    sql.push_str(");");
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&sql).unwrap();
    db
}

#[test]
fn every_question_is_one_its_platforms_can_answer() {
    for platform in Platform::ALL {
        let db = tables(platform);
        for detail in details() {
            for source in detail.sources.iter().filter(|s| s.platforms.contains(&platform)) {
                let query = db.prepare(&source.query);
                let query = query.unwrap_or_else(|e| panic!("{} on {platform}: {e}", source.name));
                for column in query.column_names() {
                    let declared = detail.columns.iter().any(|c| c.name == column);
                    assert!(declared, "{}: {column} is not declared", source.name);
                }
            }
        }
    }
}
