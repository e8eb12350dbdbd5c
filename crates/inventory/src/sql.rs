//! SQL over what is known of endpoints, for the child process that answers it within what the asker may
//! see.

use crate::details;

/// Details that have a list of their own.
const LISTS: [&str; 2] = ["inventory_software", "inventory_users"];

/// One row for one endpoint: a list of objects per detail, without its users and software.
#[must_use]
pub fn vitals(endpoint: u32) -> String {
    let shown = details().iter().filter(|detail| !LISTS.contains(&detail.table()));
    let column = |detail: &crate::Detail| {
        let table = detail.table();
        let member = |name: &str| format!("{}, \"{name}\"", literal(name));
        let members = detail.columns.iter().map(|column| member(&column.name));
        let members = members.collect::<Vec<_>>().join(", ");
        let name = table.strip_prefix("inventory_").unwrap_or(table);
        format!(
            "  (SELECT array_agg(named_struct({members}, 'last_seen', last_seen)) \
             FROM {table}_current WHERE endpoint = {endpoint}) AS \"{name}\""
        )
    };
    format!("SELECT\n{}", shown.map(column).collect::<Vec<_>>().join(",\n"))
}

/// The local accounts of an endpoint.
#[must_use]
pub fn users(endpoint: u32) -> String {
    format!(
        "SELECT username, uid, gid, description, directory, shell, uuid, first_seen, last_seen\n\
         FROM inventory_users_current WHERE endpoint = {endpoint} ORDER BY uid, username"
    )
}

/// The installed software of an endpoint.
#[must_use]
pub fn software(endpoint: u32) -> String {
    format!(
        "SELECT name, version, source, arch, vendor, path, identifier, browser, username, first_seen, \
         last_seen\nFROM inventory_software_current WHERE endpoint = {endpoint} \
         ORDER BY name, version, source"
    )
}

/// A text as a SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Texts as the inside of `IN (…)`.
pub(crate) fn literals(texts: &[String]) -> String {
    texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vitals_hold_every_detail_but_the_long_ones() {
        let sql = vitals(7);
        for name in ["system", "os", "agent", "interfaces", "disk", "flags"] {
            let part = format!("FROM inventory_{name}_current WHERE endpoint = 7");
            assert!(sql.contains(&part), "{name}");
        }
        assert!(!sql.contains("software") && !sql.contains("users"));
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(literals(&["a".into(), "it's".into()]), "'a', 'it''s'");
    }
}
