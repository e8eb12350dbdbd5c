//! What an agent's own flags keep it from, so that a hunt says so instead of waiting for ever.
//!
//! The agent reports its flags by a scheduled query, which works whatever they are. What is switched
//! off is kept as words among the agent's capabilities.

use muster_endpoints::{Agent, AgentReport};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::state::report_of;

/// The scheduled query that reports flags.
pub(crate) const FLAGS_SOURCE: &str = "muster.flags";
/// It never polls for work.
pub(crate) const DISTRIBUTED_OFF: &str = "distributed:off";
/// It uploads no files.
pub(crate) const CARVER_OFF: &str = "carver:off";

/// Whether the agent said that it never polls for work.
pub(crate) fn is_distributed_off(agent: &Agent) -> bool {
    has(agent, DISTRIBUTED_OFF)
}

/// Whether this is among its words.
pub(crate) fn has(agent: &Agent, word: &str) -> bool {
    agent.facts.capabilities.split(' ').any(|one| one == word)
}

/// The agent, now that it polls.
pub(crate) fn distributed_on(agent: &Agent) -> AgentReport {
    let mut report = report_of(agent);
    set(&mut report, DISTRIBUTED_OFF, false);
    report
}

/// The agent by the flags among these log lines; `None` when they report none.
pub(crate) fn reported(known: &Agent, lines: &[u8]) -> Option<AgentReport> {
    let lines = std::str::from_utf8(lines).ok().filter(|lines| lines.contains(FLAGS_SOURCE))?;
    let lines = format!("[{lines}]");
    let lines: Vec<&RawValue> = serde_json::from_str(&lines).ok()?;
    let mut report = report_of(known);
    let mut found = false;
    for line in lines.iter().filter(|line| line.get().contains(FLAGS_SOURCE)) {
        let Ok(line) = serde_json::from_str::<Line>(line.get()) else { continue };
        if line.name != FLAGS_SOURCE || line.action == "removed" {
            continue;
        }
        let Diff { added, .. } = line.diff_results;
        for flag in line.snapshot.iter().chain(&line.columns).chain(&added) {
            found |= apply(&mut report, flag);
        }
    }
    found.then_some(report)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    snapshot: Vec<Flag>,
    columns: Option<Flag>,
    #[serde(default)]
    diff_results: Diff,
}

#[derive(Default, Deserialize)]
struct Diff {
    #[serde(default)]
    added: Vec<Flag>,
}

#[derive(Deserialize)]
struct Flag {
    name: String,
    value: String,
}

fn apply(report: &mut AgentReport, flag: &Flag) -> bool {
    let word = match flag.name.as_str() {
        "disable_distributed" => DISTRIBUTED_OFF,
        "disable_carver" => CARVER_OFF,
        _ => return false,
    };
    set(report, word, flag.value == "true" || flag.value == "1");
    true
}

fn set(report: &mut AgentReport, word: &str, on: bool) {
    let others = report.capabilities.split(' ').filter(|one| !one.is_empty() && *one != word);
    let mut words: Vec<&str> = others.collect();
    if on {
        words.push(word);
    }
    report.capabilities = words.join(" ");
}
