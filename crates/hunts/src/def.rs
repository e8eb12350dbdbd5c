//! What a hunt is: its row in the catalog as a checked value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use muster_artifact::{Artifact, Bound, RowClass, Source};
use muster_results::TableSpec;
use muster_types::{AgentKind, ColumnDecl, HuntNo, OrgId, Outcome, ScopeSpec, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Limits;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used in the API, SQL and the catalog.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { what: stringify!($name), word: word.to_owned() }),
                }
            }
        }
    };
}

/// A word that names no kind or state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what}")]
pub struct UnknownWord {
    what: &'static str,
    word: String,
}

words! {
    /// Who waits for it, and so how it is recruited and when it is over.
    HuntKind {
        /// On every endpoint in its scope until it expires or is stopped, at a bounded rate;
        /// endpoints that appear later take part.
        Hunt = "hunt",
        /// Somebody watches: at once on what is online, over when all have answered.
        Live = "live",
        /// One artifact on chosen endpoints, at once, waiting for those that are offline.
        Collection = "collection",
    }
}

words! {
    /// Where a hunt stands.
    HuntState {
        /// A second person has to agree first.
        AwaitingApproval = "awaiting_approval",
        /// It recruits and hands out tasks.
        Running = "running",
        /// It does neither until it is resumed; what was handed out goes on.
        Paused = "paused",
        /// Ended by a person; unfinished tasks are cancelled.
        Stopped = "stopped",
        /// Every endpoint in its scope has an outcome.
        Finished = "finished",
        /// Its time is up.
        Expired = "expired",
    }
}

impl HuntState {
    /// Whether it can never run again.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Finished | Self::Expired)
    }
}

/// What is collected: kept as JSON in `hunt.definition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// What each agent kind runs. A kind that is missing is unsupported.
    pub sources: BTreeMap<AgentKind, Source>,
    /// Values of the artifact's parameters.
    #[serde(default)]
    pub parameters: Bound,
    /// Declared result columns; empty for an ad-hoc query.
    #[serde(default)]
    pub columns: Vec<ColumnDecl>,
    /// How rows are kept.
    #[serde(default)]
    pub class: RowClass,
}

impl Definition {
    /// An artifact with its parameters bound.
    #[must_use]
    pub fn of_artifact(artifact: &Artifact, parameters: Bound) -> Self {
        Self {
            sources: artifact.sources.clone(),
            parameters,
            columns: artifact.column_decls(),
            class: artifact.class,
        }
    }

    /// One SQL text for the agents that speak SQL.
    #[must_use]
    pub fn ad_hoc(sql: &str) -> Self {
        let source = Source { query: sql.to_owned() };
        Self {
            sources: [AgentKind::Native, AgentKind::Osquery]
                .map(|kind| (kind, source.clone()))
                .into(),
            parameters: Bound::new(),
            columns: Vec::new(),
            class: RowClass::Collected,
        }
    }
}

/// One hunt as the catalog had it at its last change. What identifies it (everything up to
/// `created_at`) never changes; the rest is news, and a later [`HuntDef`] of the same number replaces this.
#[derive(Clone, Debug)]
pub struct HuntDef {
    /// Its number.
    pub no: HuntNo,
    /// Whose.
    pub org: OrgId,
    /// Its kind.
    pub kind: HuntKind,
    /// A few words for lists.
    pub title: String,
    /// The artifact's name; empty for an ad-hoc query.
    pub artifact: String,
    /// What each agent kind runs.
    pub sources: BTreeMap<AgentKind, Source>,
    /// Values of the artifact's parameters.
    pub parameters: Bound,
    /// Where its rows go.
    pub table: Arc<TableSpec>,
    /// Which endpoints.
    pub scope: ScopeSpec,
    /// How fast, and when it stops itself.
    pub limits: Limits,
    /// What the asker may act on: it never reaches further.
    pub caller_scope: Vec<ScopeSpec>,
    /// Who asked.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// When it was asked.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: HuntState,
    /// Why it is paused, for people.
    pub pause_reason: Option<String>,
    /// The second person.
    pub approved_by: Option<String>,
    /// Its results are kept at least until then.
    pub hold_until: Option<Timestamp>,
    /// When it first ran.
    pub started_at: Option<Timestamp>,
    /// When its time is up.
    pub expires_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// When a task that was handed to its agent ends without the agent's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// From then on the shard's worker ends it.
    pub at: Timestamp,
    /// With this outcome.
    pub outcome: Outcome,
}

impl HuntDef {
    /// How long an agent that was told to cancel may take to say so.
    pub const CANCEL_GRACE: Duration = Duration::from_secs(60);
    /// How long after a stop it may be unknown that a task was handed out before: instances hear of the stop by a
    /// hint, and the fold writes what was handed out about every second.
    pub const UNSETTLED: Duration = Duration::from_secs(3);

    /// The identifier of an agent's first attempt.
    #[must_use]
    pub fn task(&self) -> TaskId {
        TaskId { hunt: self.no, attempt: 1 }
    }

    /// Whether agents of this kind can do it.
    #[must_use]
    pub fn supports(&self, kind: AgentKind) -> bool {
        self.sources.contains_key(&kind)
    }

    /// Whether rate and canary apply.
    #[must_use]
    pub fn is_paced(&self) -> bool {
        self.kind == HuntKind::Hunt
    }

    /// Whether recruited agents are given their task now.
    #[must_use]
    pub fn hands_out(&self) -> bool {
        self.state == HuntState::Running
    }

    /// When tasks that were handed out end without an answer. The agent enforces the task's own
    /// timeout; a machine that sleeps meanwhile may still answer until the hunt is over.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        let late = match self.kind {
            HuntKind::Hunt => Outcome::Expired,
            HuntKind::Live | HuntKind::Collection => Outcome::TimedOut,
        };
        match (self.state, self.ended_at) {
            (HuntState::Stopped, Some(at)) => {
                let at = at.plus(Self::CANCEL_GRACE);
                Deadline { at, outcome: Outcome::Cancelled }
            }
            _ => Deadline { at: self.expires_at, outcome: late },
        }
    }

    /// What endpoints are that were never recruited.
    pub(crate) fn unrecruited_outcome(&self) -> Outcome {
        match self.state {
            HuntState::AwaitingApproval | HuntState::Running | HuntState::Paused => {
                Outcome::Waiting
            }
            HuntState::Stopped => Outcome::Cancelled,
            HuntState::Finished | HuntState::Expired => Outcome::Expired,
        }
    }

    /// When a person stopped it.
    #[must_use]
    pub fn stopped_at(&self) -> Option<Timestamp> {
        self.ended_at.filter(|_| self.state == HuntState::Stopped)
    }

    /// Whether it was stopped so lately that tasks which count as waiting may have been handed out, and be
    /// answered yet.
    #[must_use]
    pub fn is_unsettled(&self, now: Timestamp) -> bool {
        self.stopped_at().is_some_and(|at| now < at.plus(Self::UNSETTLED))
    }

    /// What tasks are at `now` of which it is not known that they were handed out, and what those are that were,
    /// without an end of their own.
    pub(crate) fn open_outcomes(&self, now: Timestamp) -> (Outcome, Outcome) {
        let (unasked, deadline) = (self.unrecruited_outcome(), self.deadline());
        match self.state {
            HuntState::AwaitingApproval | HuntState::Running | HuntState::Paused => {
                (unasked, Outcome::Running)
            }
            // What is said to be cancelled is to stay so.
            HuntState::Stopped if self.is_unsettled(now) => (Outcome::Waiting, Outcome::Running),
            HuntState::Stopped if now < deadline.at => (unasked, Outcome::Running),
            HuntState::Stopped | HuntState::Finished | HuntState::Expired => {
                (unasked, deadline.outcome)
            }
        }
    }
}
