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

/// What log lines say of flags: what is off, as far as they tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    distributed_off: Option<bool>,
    /// Questions come by another plugin than ours.
    distributed_elsewhere: Option<bool>,
    carver_off: Option<bool>,
}

/// The agent, now that its flags are known.
pub(crate) fn reported(known: &Agent, flags: Flags) -> AgentReport {
    let mut report = report_of(known);
    let distributed = [flags.distributed_off, flags.distributed_elsewhere];
    let distributed = distributed.into_iter().flatten().reduce(|one, other| one || other);
    let words = [(DISTRIBUTED_OFF, distributed), (CARVER_OFF, flags.carver_off)];
    for (word, off) in words {
        if let Some(off) = off {
            set(&mut report, word, off);
        }
    }
    report
}

/// The flags among these log lines; `None` when they report none. Reads all of them.
pub(crate) fn flags(lines: &[u8]) -> Option<Flags> {
    let lines = std::str::from_utf8(lines).ok().filter(|lines| lines.contains(FLAGS_SOURCE))?;
    let lines = format!("[{lines}]");
    let lines: Vec<&RawValue> = serde_json::from_str(&lines).ok()?;
    let mut flags = Flags::default();
    for line in lines.iter().filter(|line| line.get().contains(FLAGS_SOURCE)) {
        let Ok(line) = serde_json::from_str::<Line>(line.get()) else { continue };
        if line.name != FLAGS_SOURCE || line.action == "removed" {
            continue;
        }
        let Diff { added, .. } = line.diff_results;
        for flag in line.snapshot.iter().chain(&line.columns).chain(&added) {
            apply(&mut flags, flag);
        }
    }
    (flags != Flags::default()).then_some(flags)
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

fn apply(flags: &mut Flags, flag: &Flag) {
    let off = Some(flag.value == "true" || flag.value == "1");
    match flag.name.as_str() {
        "disable_distributed" => flags.distributed_off = off,
        "distributed_plugin" => flags.distributed_elsewhere = Some(flag.value != "tls"),
        "disable_carver" => flags.carver_off = off,
        _ => {}
    }
}

fn set(report: &mut AgentReport, word: &str, on: bool) {
    let others = report.capabilities.split(' ').filter(|one| !one.is_empty() && *one != word);
    let mut words: Vec<&str> = others.collect();
    if on {
        words.push(word);
    }
    report.capabilities = words.join(" ");
}
