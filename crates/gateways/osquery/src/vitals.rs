//! What an agent's answers to detail questions say of the machine, on its way to the directory.

use std::collections::BTreeMap;

use muster_codec_osquery::{QueryAnswer, QueryId};
use muster_endpoints::{Agent, AgentReport};

use crate::state::report_of;

/// A longer row is none of a machine.
const ROW_BYTES_MAX: usize = 64 << 10;

type Row = BTreeMap<String, serde_json::Value>;

/// Whether nothing is known yet that a list of machines shows.
pub(crate) fn are_unknown(agent: &Agent) -> bool {
    agent.hostname.is_empty() || agent.facts.platform.is_empty() || agent.facts.os_name.is_empty()
}

/// The agent as its answers describe it; `None` when they say nothing of it.
pub(crate) fn reported(known: &Agent, answers: &[QueryAnswer]) -> Option<AgentReport> {
    let mut report = report_of(known);
    let mut found = false;
    for answer in answers.iter().filter(|answer| answer.status == 0 && !answer.is_cut) {
        let Some(QueryId::Inventory { source, .. }) = QueryId::parse(&answer.id) else { continue };
        let fields: &mut [(&str, &mut String)] = match source {
            "inventory.system" => &mut [("hostname", &mut report.hostname)],
            "inventory.os" => &mut [
                ("name", &mut report.os_name),
                ("version", &mut report.os_version),
                ("arch", &mut report.arch),
            ],
            "inventory.agent" => &mut [("version", &mut report.version)],
            _ => continue,
        };
        let Some(row) = first_row(&answer.rows) else { continue };
        for (column, field) in fields {
            if let Some(text) = row.get(*column).and_then(|value| value.as_str())
                && !text.is_empty()
            {
                text.clone_into(field);
                found = true;
            }
        }
    }
    found.then_some(report)
}

/// The first of the rows; the others are not even looked at.
fn first_row(rows: &[u8]) -> Option<Row> {
    let rows = rows.trim_ascii_start().strip_prefix(b"[")?;
    let rows = &rows[..rows.len().min(ROW_BYTES_MAX)];
    serde_json::Deserializer::from_slice(rows).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_alone_is_read() {
        let name = |rows: &[u8]| first_row(rows)?.get("name")?.as_str().map(str::to_owned);
        assert_eq!(name(br#" [ {"name":"a"},{"name":"b"}]"#).as_deref(), Some("a"));
        assert_eq!(name(br#"[{"name":"a"},{"name":"#).as_deref(), Some("a"));
        for none in [&b"[]"[..], b"", b"{}", b"[7]", b"[{"] {
            assert_eq!(name(none), None);
        }
        let long = format!(r#"[{{"name":"{}"}}]"#, "x".repeat(ROW_BYTES_MAX));
        assert_eq!(name(long.as_bytes()), None);
    }
}
