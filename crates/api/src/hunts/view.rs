//! Hunts and their coverage, as the API shows them.

use std::fmt::Write as _;

use muster_hunts::{Coverage as Counts, HuntDef, HuntState, PauseRule};
use muster_types::{Access, Outcome};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::scope::Scope;
use crate::time::Time;

/// A hunt, a live query or a collection.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Hunt {
    /// Its number, never reused.
    pub no: u64,
    /// `hunt`, `live` or `collection`.
    pub kind: String,
    /// `awaiting_approval`, `running`, `paused`, `stopped`, `finished` or `expired`.
    pub state: String,
    /// A few words.
    pub title: String,
    /// The artifact; missing for a query in SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The query in SQL; missing for an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Values of the artifact's parameters.
    #[schema(value_type = Object)]
    pub parameters: serde_json::Value,
    /// The table its rows are in, in SQL; `hunt_N` names them as well.
    pub table: String,
    /// Which endpoints. Only told to who asked and to who sees everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Who asked.
    pub requested_by: String,
    /// The second person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Why.
    pub reason: String,
    /// Why it is paused. Counts of everything are only told to who asked and to who sees everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_reason: Option<String>,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// When it was asked.
    pub created_at: Time,
    /// When it first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When its time is up.
    pub expires_at: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Its results are kept at least until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Time>,
}

/// A hunt with what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HuntDetail {
    /// The hunt.
    pub hunt: Hunt,
    /// What became of the caller's endpoints.
    pub coverage: Coverage,
}

/// One outcome for each endpoint in scope that the caller may see; they sum to `total`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Coverage {
    /// Endpoints in scope.
    pub total: u64,
    /// Those whose turn has come.
    pub recruited: u64,
    /// Those that ended, in whatever way.
    pub ended: u64,
    /// Not yet handed to the agent.
    pub waiting: u64,
    /// Handed out, no end yet.
    pub running: u64,
    /// Answered with rows.
    pub rows: u64,
    /// Answered without.
    pub empty: u64,
    /// The agent reported an error.
    pub failed: u64,
    /// The time ran out.
    pub timed_out: u64,
    /// The agent cannot do it.
    pub unsupported: u64,
    /// Stopped by a person.
    pub cancelled: u64,
    /// No answer before the hunt's end.
    pub expired: u64,
    /// Removed before they answered.
    pub retired: u64,
    /// Rows stored; only told to who sees everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_count: Option<u64>,
    /// Bytes of rows as the agents sent them; only told to who sees everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub byte_count: Option<u64>,
    /// The same as a sentence.
    pub sentence: String,
}

impl From<&Counts> for Coverage {
    fn from(counts: &Counts) -> Self {
        Self {
            total: counts.total,
            recruited: counts.recruited,
            ended: counts.ended(),
            waiting: counts.count(Outcome::Waiting),
            running: counts.count(Outcome::Running),
            rows: counts.count(Outcome::Rows),
            empty: counts.count(Outcome::Empty),
            failed: counts.count(Outcome::Failed),
            timed_out: counts.count(Outcome::TimedOut),
            unsupported: counts.count(Outcome::Unsupported),
            cancelled: counts.count(Outcome::Cancelled),
            expired: counts.count(Outcome::Expired),
            retired: counts.count(Outcome::Retired),
            row_count: counts.row_count,
            byte_count: counts.byte_count,
            sentence: sentence(counts),
        }
    }
}

/// Coverage in words, with what is missing.
fn sentence(counts: &Counts) -> String {
    let answered = counts.count(Outcome::Rows) + counts.count(Outcome::Empty);
    let noun = if counts.total == 1 { "endpoint" } else { "endpoints" };
    let mut text = format!("{answered} of {} {noun} answered", counts.total);
    if answered > 0 {
        let _ = write!(text, " ({} with rows)", counts.count(Outcome::Rows));
    }
    let missing = counts.iter().filter(|(outcome, count)| {
        *count > 0 && !matches!(outcome, Outcome::Rows | Outcome::Empty)
    });
    for (n, (outcome, count)) in missing.enumerate() {
        let joint = if n == 0 { "; " } else { ", " };
        let _ = write!(text, "{joint}{count} {}", outcome.as_str().replace('_', " "));
    }
    text.push('.');
    text
}

/// A hunt as this caller may see it.
pub(crate) fn hunt(def: &HuntDef, caller: &Caller, access: &Access) -> Hunt {
    let ad_hoc = def.artifact.is_empty();
    let query = def.sources.values().next().map(|source| source.query.clone());
    // A scope may name labels and machines outside what a scoped caller sees, and a pause counts them.
    let open = access.agents.is_none() || def.requested_by == caller.principal.name;
    let pause_reason = def.pause_reason.as_deref().filter(|_| def.state == HuntState::Paused);
    let pause_reason = pause_reason.map(|reason| match open {
        true => reason.to_owned(),
        false => PauseRule::in_general(reason),
    });
    Hunt {
        no: def.no.0,
        kind: def.kind.to_string(),
        state: def.state.to_string(),
        title: def.title.clone(),
        artifact: (!ad_hoc).then(|| def.artifact.clone()),
        query: query.filter(|_| ad_hoc),
        parameters: serde_json::to_value(&def.parameters).unwrap_or_default(),
        table: def.table.name.clone(),
        scope: open.then(|| Scope::from(&def.scope)),
        requested_by: def.requested_by.clone(),
        approved_by: def.approved_by.clone(),
        reason: def.reason.clone(),
        pause_reason,
        incident: def.incident.clone(),
        created_at: def.created_at.into(),
        started_at: def.started_at.map(Time::from),
        expires_at: def.expires_at.into(),
        ended_at: def.ended_at.map(Time::from),
        hold_until: def.hold_until.map(Time::from),
    }
}
