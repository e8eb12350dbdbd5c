//! `endpoints`: one row per machine that the asker may know of.

use arrow::array::ArrayRef;
use muster_types::ColumnType::{self, Int, Text, Time};

use super::column::{number, text, time};
use crate::Error;
use crate::question::Question;

pub(super) const COLUMNS: &[(&str, ColumnType)] = &[
    ("endpoint", Int),
    ("name", Text),
    ("platform", Text),
    ("os_name", Text),
    ("os_version", Text),
    ("arch", Text),
    ("hostname", Text),
    ("labels", Text),
    ("agents", Int),
    ("created_at", Time),
    ("last_seen", Time),
];

pub(super) async fn rows(question: &Question) -> Result<Vec<ArrayRef>, Error> {
    let access = &question.access;
    let snapshot = question.directory().await?;
    let seen = snapshot.endpoints(access.org).filter(|one| snapshot.allows(access, one));
    let seen: Vec<_> = seen
        .map(|endpoint| {
            // Agents outside the asker's scope say nothing here.
            let allowed = |no: &&_| access.allows(access.org, **no);
            let agents =
                endpoint.agents.iter().filter(allowed).filter_map(|no| snapshot.agent(*no));
            let agents: Vec<_> = agents.collect();
            let primary = snapshot
                .best_agent(endpoint.no, |agent| access.allows(access.org, agent.no))
                .or_else(|| agents.last().copied());
            let labels: Vec<&str> =
                snapshot.labels_of(endpoint).map(|label| &*label.name).collect();
            (endpoint, primary, agents, labels.join(","))
        })
        .collect();
    let facts = || seen.iter().map(|(_, primary, ..)| primary.map(|agent| &*agent.facts));
    Ok(vec![
        number(seen.iter().map(|(endpoint, ..)| Some(i64::from(endpoint.no.0)))),
        text(seen.iter().map(|(endpoint, ..)| Some(&endpoint.name))),
        text(facts().map(|facts| facts.map(|facts| &facts.platform))),
        text(facts().map(|facts| facts.map(|facts| &facts.os_name))),
        text(facts().map(|facts| facts.map(|facts| &facts.os_version))),
        text(facts().map(|facts| facts.map(|facts| &facts.arch))),
        text(seen.iter().map(|(_, primary, ..)| primary.map(|agent| &agent.hostname))),
        text(seen.iter().map(|(.., labels)| Some(labels))),
        number(seen.iter().map(|(_, _, agents, _)| i64::try_from(agents.len()).ok())),
        time(seen.iter().map(|(endpoint, ..)| Some(endpoint.created_at))),
        time(seen.iter().map(|(_, _, agents, _)| agents.iter().map(|a| a.last_seen).max())),
    ])
}
