//! People and programs: requests of the API, SQL, traces.

use std::fmt::Error;

use super::Sources;
use super::out::{Labels, Out, PLAIN};

pub(super) fn encode(sources: &Sources, out: &mut Out<'_>) -> Result<(), Error> {
    let stats = sources.api.stats();
    let mut counted = Vec::new();
    for (class, statuses) in stats.requests() {
        for (status, count) in statuses {
            counted.push(([("class", class), ("status", status)], count));
        }
    }
    let samples = counted.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    let help = "Requests of the API, by class of operation and of status";
    out.counters("api_requests", help, PLAIN, samples)?;
    let timed: Vec<_> =
        stats.durations().into_iter().map(|(class, seen)| ([("class", class)], seen)).collect();
    let samples = timed.iter().map(|(labels, seen)| (labels as Labels<'_>, seen.clone()));
    let help = "How long requests of the API took until their answer began, by class of operation";
    out.durations("api_request_duration", help, samples)?;
    out.gauge("api_requests_open", "Requests that are being answered", PLAIN, stats.open.get())?;
    let sql = &stats.sql;
    out.gauge("sql_running", "SQL queries that run", PLAIN, sql.running.get())?;
    out.gauge("sql_waiting", "SQL queries that wait for a place", PLAIN, sql.waiting.get())?;
    let help = "How long SQL queries took, answers included";
    out.durations("sql_query_duration", help, [(&[] as Labels<'_>, sql.took.read())])?;
    let ended = [
        ([("end", "answered")], sql.answered.get()),
        ([("end", "refused")], sql.refused.get()),
        ([("end", "killed")], sql.killed.get()),
        ([("end", "failed")], sql.failed.get()),
        ([("end", "left")], sql.left.get()),
    ];
    let samples = ended.iter().map(|(labels, value)| (labels as Labels<'_>, *value));
    let help = "SQL queries, by how they ended: killed is for memory or time, left by their asker";
    out.counters("sql_queries", help, PLAIN, samples)?;
    if let Some(traces) = &sources.traces {
        let help = "Spans the collector took";
        out.counter("trace_spans_exported", help, PLAIN, traces.exported.get())?;
        let help = "Spans dropped: too many waited, or the collector did not take them";
        out.counter("trace_spans_dropped", help, PLAIN, traces.dropped.get())?;
    }
    Ok(())
}
