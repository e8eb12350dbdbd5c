//! `agents`: one row per enrolment that the asker may know of.

use arrow::array::ArrayRef;
use muster_endpoints::AgentState;
use muster_types::ColumnType::{self, Int, Text, Time};

use super::column::{number, text, time};
use crate::Error;
use crate::question::Question;

pub(super) const COLUMNS: &[(&str, ColumnType)] = &[
    ("agent", Int),
    ("endpoint", Int),
    ("kind", Text),
    ("state", Text),
    ("hostname", Text),
    ("platform", Text),
    ("os_name", Text),
    ("os_version", Text),
    ("arch", Text),
    ("version", Text),
    ("capabilities", Text),
    ("enrolled_at", Time),
    ("last_seen", Time),
    ("last_address", Text),
    ("clone_of", Int),
];

pub(super) async fn rows(question: &Question) -> Result<Vec<ArrayRef>, Error> {
    let access = &question.access;
    let snapshot = question.directory().await?;
    let seen: Vec<_> = snapshot
        .agents(access.org)
        .filter(|agent| access.allows(access.org, agent.no) && agent.state != AgentState::Retired)
        .collect();
    let numbers = |of: &dyn Fn(&muster_endpoints::Agent) -> Option<u32>| {
        number(seen.iter().map(|agent| of(agent).map(i64::from)))
    };
    Ok(vec![
        numbers(&|agent| Some(agent.no.0)),
        numbers(&|agent| Some(agent.endpoint.0)),
        text(seen.iter().map(|agent| Some(agent.kind.as_str()))),
        text(seen.iter().map(|agent| Some(agent.state.as_str()))),
        text(seen.iter().map(|agent| Some(&agent.hostname))),
        text(seen.iter().map(|agent| Some(&agent.facts.platform))),
        text(seen.iter().map(|agent| Some(&agent.facts.os_name))),
        text(seen.iter().map(|agent| Some(&agent.facts.os_version))),
        text(seen.iter().map(|agent| Some(&agent.facts.arch))),
        text(seen.iter().map(|agent| Some(&agent.facts.version))),
        text(seen.iter().map(|agent| Some(&agent.facts.capabilities))),
        time(seen.iter().map(|agent| Some(agent.enrolled_at))),
        time(seen.iter().map(|agent| Some(agent.last_seen))),
        text(seen.iter().map(|agent| Some(&agent.last_address))),
        numbers(&|agent| agent.clone_of.filter(|no| access.allows(access.org, *no)).map(|no| no.0)),
    ])
}
