//! Answers to distributed queries.

use std::collections::HashMap;

use bytes::Bytes;
use muster_types::{
    Delta, Fact, Facts, Outcome, Poison, Repeat, RowFormat, Rows, Spent, TaskEnd, TaskId, Used,
};
use serde_json::value::RawValue;

use super::unreadable;
use crate::wire::Answer;
use crate::{QUERIES_MAX, QueryId};

const CUT: &str = "the answer was larger than the server takes from osquery, and was dropped";

/// All answers of one request.
pub(super) fn answers(text: &Bytes) -> Result<Facts, Poison> {
    let mut answers: Vec<Answer<'_>> = serde_json::from_slice(text).map_err(unreadable)?;
    answers.truncate(QUERIES_MAX);
    // A write that failed comes again together with newer answers: only the newest state counts.
    let mut newest: HashMap<String, u32> = HashMap::new();
    for answer in &answers {
        if let Some(QueryId::Inventory { round, source }) = QueryId::parse(&answer.id) {
            let known = newest.entry(source.to_owned()).or_default();
            *known = (*known).max(round);
        }
    }
    let mut items = Vec::with_capacity(answers.len() * 2);
    for answer in &answers {
        match QueryId::parse(&answer.id) {
            Some(QueryId::Hunt(task)) => hunt(text, task, answer, &mut items),
            Some(QueryId::Policy(no)) => items.push(policy(no, answer)),
            Some(QueryId::Inventory { round, source }) => {
                if newest.get(source) == Some(&round) {
                    items.push(inventory(text, source, answer));
                }
            }
            None => items.push(Fact::Log {
                level: "warning".to_owned(),
                message: format!(
                    "an answer to query {:?}, which this server did not ask",
                    answer.id
                ),
            }),
        }
    }
    Ok(Facts { repeat: Repeat::Idempotent, items })
}

fn hunt(text: &Bytes, task: TaskId, answer: &Answer<'_>, items: &mut Vec<Fact>) {
    if let Some(rows) = answer.rows {
        items.push(Fact::Rows(Rows {
            task: Some(task),
            source: String::new(),
            columns: Vec::new(),
            format: RowFormat::Array,
            json: shared(text, rows),
            endpoint_time: None,
            delta: Delta::None,
        }));
    }
    let failure = failure(answer);
    items.push(Fact::End(TaskEnd {
        task,
        outcome: failure.is_some().then_some(Outcome::Failed),
        message: failure.unwrap_or_else(|| answer.message.to_string()),
        spent: spent(answer),
    }));
}

fn spent(answer: &Answer<'_>) -> Spent {
    let micros = |ms: u64| ms.saturating_mul(1000);
    let used = answer.used.map(|used| Used {
        user_micros: micros(used.user_time_ms),
        system_micros: micros(used.system_time_ms),
        memory_bytes: used.memory_bytes,
    });
    // Of an answer that was cut off the status may be missing.
    let status = (!answer.cut).then_some(answer.status);
    Spent { elapsed_micros: micros(answer.wall_time_ms), status, used }
}

/// Why there is no good answer; `None` when there is one.
fn failure(answer: &Answer<'_>) -> Option<String> {
    if answer.cut {
        return Some(CUT.to_owned());
    }
    if answer.status == 0 {
        return None;
    }
    let message = &*answer.message;
    Some(match message {
        "" => format!("osquery ended the query with status {}", answer.status),
        _ if message.contains("denylisted") => format!(
            "{message}: osquery's worker died while it ran this text, so the agent refuses it \
             for a day; a query of another text is not affected"
        ),
        _ => message.to_owned(),
    })
}

fn policy(no: u64, answer: &Answer<'_>) -> Fact {
    let failure = failure(answer);
    let state = match (&failure, answer.rows) {
        (Some(_), _) => "unknown",
        (None, Some(_)) => "pass",
        (None, None) => "fail",
    };
    let message = failure.unwrap_or_default();
    let row = serde_json::json!([{ "state": state, "message": message }]);
    snapshot(format!("policy/{no}"), row.to_string().into())
}

fn inventory(text: &Bytes, source: &str, answer: &Answer<'_>) -> Fact {
    match failure(answer) {
        Some(why) => Fact::Log {
            level: "error".to_owned(),
            message: format!("the inventory query {source:?} failed: {why}"),
        },
        None => {
            let rows = answer.rows.map_or(Bytes::from_static(b"[]"), |rows| shared(text, rows));
            snapshot(source.to_owned(), rows)
        }
    }
}

fn snapshot(source: String, json: Bytes) -> Fact {
    Fact::Rows(Rows {
        task: None,
        source,
        columns: Vec::new(),
        format: RowFormat::Array,
        json,
        endpoint_time: None,
        delta: Delta::SNAPSHOT,
    })
}

fn shared(text: &Bytes, json: &RawValue) -> Bytes {
    text.slice_ref(json.get().as_bytes())
}
