//! What the API measures of itself.

use std::collections::BTreeMap;

use http::StatusCode;
use muster_types::measure::{Counter, Durations, Observed};

use crate::authorise::OPERATIONS;
use crate::problem::{Code, Problem};

/// Classes of status, as labels.
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Requests without an operation: unknown paths and methods.
const OTHER: &str = "other";

/// Counts of one process. Classes are the words before the dot of operations' ids, so there are as
/// many as are compiled in.
#[derive(Debug)]
pub struct Stats {
    classes: BTreeMap<&'static str, Class>,
    /// Requests that are being answered.
    pub open: Counter,
    /// SQL over results.
    pub sql: SqlStats,
}

#[derive(Debug, Default)]
struct Class {
    statuses: [Counter; STATUSES.len()],
    took: Durations,
}

/// How SQL queries fare.
#[derive(Debug, Default)]
pub struct SqlStats {
    /// Queries that run.
    pub running: Counter,
    /// Queries that wait for a place.
    pub waiting: Counter,
    /// How long they took from their place to their end.
    pub took: Durations,
    /// Queries that were answered to the end.
    pub answered: Counter,
    /// Queries with a mistake, and those for which there was no place.
    pub refused: Counter,
    /// Queries that ran out of memory or time.
    pub killed: Counter,
    /// Queries whose asker went away.
    pub left: Counter,
    /// Queries that failed through no fault of the asker.
    pub failed: Counter,
}

fn class_of(operation: Option<&'static str>) -> &'static str {
    operation.map_or(OTHER, |id| id.split_once('.').map_or(id, |(class, _)| class))
}

impl Default for Stats {
    fn default() -> Self {
        let ids = OPERATIONS.iter().map(|operation| Some(operation.id)).chain([None]);
        let classes = ids.map(|id| (class_of(id), Class::default())).collect();
        Self { classes, open: Counter::default(), sql: SqlStats::default() }
    }
}

impl Stats {
    pub(crate) fn seen(
        &self,
        operation: Option<&'static str>,
        status: StatusCode,
        took: std::time::Duration,
    ) {
        let Some(class) = self.classes.get(class_of(operation)) else { return };
        let at = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        class.statuses[at].inc();
        class.took.observe(took);
    }

    /// Requests by class of operation and of status.
    #[must_use]
    pub fn requests(&self) -> Vec<(&'static str, Vec<(&'static str, u64)>)> {
        let read = |class: &Class| {
            let counts = class.statuses.iter().map(Counter::get);
            STATUSES.into_iter().zip(counts).collect()
        };
        self.classes.iter().map(|(name, class)| (*name, read(class))).collect()
    }

    /// How long requests took until their answer began, by class of operation.
    #[must_use]
    pub fn durations(&self) -> Vec<(&'static str, Observed)> {
        self.classes.iter().map(|(name, class)| (*name, class.took.read())).collect()
    }
}

impl SqlStats {
    pub(crate) fn ended(&self, done: &Result<(), Problem>, left: bool) {
        match done {
            Ok(()) => self.answered.inc(),
            Err(_) if left => self.left.inc(),
            Err(problem) => match problem.code() {
                Code::QueryMemory | Code::QueryTimeout => self.killed.inc(),
                Code::InvalidQuery | Code::TooMany => self.refused.inc(),
                _ => self.failed.inc(),
            },
        }
    }
}
