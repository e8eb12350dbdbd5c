//! Reports of several simulators, added up.

use std::collections::BTreeMap;

use muster_loadgen::{OsqueryReport, Summary};
use serde::Serialize;

/// Everything so far, or between two moments.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sum {
    /// Enrolments.
    pub enrolled: u64,
    /// Times a host was told that its key is no good.
    pub node_invalid: u64,
    /// Agents that gave up enrolling.
    pub restarts: u64,
    /// Distributed queries that were run.
    pub queries_run: u64,
    /// Answers to them that the server took.
    pub answers_taken: u64,
    /// Log lines.
    pub made: u64,
    /// Those the server took.
    pub taken: u64,
    /// By what they came from.
    pub taken_of: BTreeMap<String, u64>,
    /// Those that wait.
    pub buffered: u64,
    /// Those that fell out of full buffers.
    pub forgotten: u64,
    /// Lines and answers that agents deleted although nobody has them.
    pub lost: u64,
    /// What agents would log as errors.
    pub errors: BTreeMap<String, u64>,
    /// Requests by route.
    pub routes: BTreeMap<String, Route>,
    /// Processor time of the simulators, in seconds.
    pub cpu: f64,
}

/// One route.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Route {
    /// Answers the agent took for success.
    pub successes: u64,
    /// Errors, timeouts, and connections that broke twice.
    pub failures: u64,
    /// Requests sent again because the connection broke.
    pub resends: u64,
    /// How many took how long.
    #[serde(skip)]
    pub buckets: Vec<u64>,
}

impl Sum {
    /// Adds one process's.
    pub fn add(&mut self, report: OsqueryReport) {
        self.enrolled += report.enrolled;
        self.node_invalid += report.node_invalid;
        self.restarts += report.restarts;
        self.queries_run += report.queries_run;
        self.answers_taken += report.answers_taken;
        self.made += report.lines_made;
        self.taken += report.lines_taken;
        self.buffered += report.lines_buffered;
        self.forgotten += report.lines_forgotten;
        self.lost += report.lost.values().sum::<u64>();
        self.cpu += report.cpu_seconds;
        for (source, count) in report.taken_of {
            *self.taken_of.entry(source).or_default() += count;
        }
        for (error, count) in report.errors {
            *self.errors.entry(error).or_default() += count;
        }
        for (name, of) in report.endpoints {
            let route = self.routes.entry(name).or_default();
            route.successes += of.successes;
            route.failures += of.errors + of.timeouts + of.broken;
            route.resends += of.resends;
            route.buckets.resize(route.buckets.len().max(of.buckets.len()), 0);
            route.buckets.iter_mut().zip(&of.buckets).for_each(|(sum, count)| *sum += count);
        }
    }

    /// What came since then. What is buffered is told as it is now.
    pub fn since(&self, then: &Self) -> Self {
        let mut since = self.clone();
        since.enrolled -= then.enrolled;
        since.node_invalid -= then.node_invalid;
        since.restarts -= then.restarts;
        since.queries_run -= then.queries_run;
        since.answers_taken -= then.answers_taken;
        since.made -= then.made;
        since.taken -= then.taken;
        since.forgotten -= then.forgotten;
        since.lost -= then.lost;
        since.cpu -= then.cpu;
        for (now, then) in
            [(&mut since.taken_of, &then.taken_of), (&mut since.errors, &then.errors)]
        {
            now.iter_mut().for_each(|(what, count)| *count -= then.get(what).unwrap_or(&0));
            now.retain(|_, count| *count > 0);
        }
        for (name, route) in &mut since.routes {
            let Some(then) = then.routes.get(name) else { continue };
            route.successes -= then.successes;
            route.failures -= then.failures;
            route.resends -= then.resends;
            route.buckets.iter_mut().zip(&then.buckets).for_each(|(now, then)| *now -= then);
        }
        since
    }

    /// Requests that were answered.
    pub fn requests(&self) -> u64 {
        self.routes.values().map(|route| route.buckets.iter().sum::<u64>()).sum()
    }

    /// Everything that an agent would see as an error.
    pub fn failures(&self) -> u64 {
        let routes = self.routes.values().map(|route| route.failures).sum::<u64>();
        routes + self.node_invalid + self.restarts
    }

    /// Lines and answers that are gone, by the agents' account.
    pub fn gone(&self) -> u64 {
        self.lost + self.forgotten
    }

    /// Percentiles of a route.
    pub fn ms(&self, route: &str) -> Summary {
        self.routes.get(route).map(|route| Summary::of(&route.buckets)).unwrap_or_default()
    }
}
