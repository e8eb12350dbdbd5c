//! What an enrolled agent may say that is not so: well-formed batches, so that nothing cuts it off, with
//! answers nobody asked for.

use bytes::Bytes;
use muster_codec_native::Task;
use muster_types::{
    ColumnDecl, ColumnType, Delta, Fact, HuntNo, Outcome, RowFormat, Rows, Spent, TaskEnd, TaskId,
    Timestamp,
};

/// What every row of a lie holds, whatever else is in it.
pub const MARK: &str = "a lie";

/// Contents of batches to be sent before the true answer to a task: answers to questions that were asked
/// of others, or of nobody, rows that are none, and one column as another type than the truth has.
pub(crate) fn before(task: &Task) -> Vec<Vec<Fact>> {
    let TaskId { hunt, attempt } = task.task;
    let others = [hunt.0.saturating_sub(1), hunt.0 + 1, hunt.0 + 1_000_000, 0, u64::MAX >> 1];
    let others = others.map(|hunt| TaskId { hunt: HuntNo(hunt), attempt: 1 });
    let attempts = [0, attempt + 1, u16::MAX].map(|attempt| TaskId { hunt, attempt });
    let answer = |task: TaskId| vec![Fact::Started(task), fact(task, rows()), end(task, None)];
    let mut said: Vec<Vec<Fact>> = others.into_iter().chain(attempts).map(answer).collect();
    said.push(vec![Fact::Rows(Rows {
        task: None,
        source: "never_scheduled".to_owned(),
        ..rows()
    })]);
    said.push(vec![Fact::Log { level: "fatal".to_owned(), message: MARK.repeat(10_000) }]);
    said
}

/// Contents of batches to be sent after it: another end, and more rows.
pub(crate) fn after(task: &Task) -> Vec<Vec<Fact>> {
    let task = task.task;
    let unreadable = Rows { json: Bytes::from_static(b"[{\"pid\":1},{\"pid"), ..rows() };
    vec![
        vec![end(task, Some(Outcome::Failed)), end(task, Some(Outcome::TimedOut))],
        vec![fact(task, rows()), end(task, None)],
        vec![fact(task, unreadable)],
    ]
}

fn fact(task: TaskId, rows: Rows) -> Fact {
    Fact::Rows(Rows { task: Some(task), ..rows })
}

fn end(task: TaskId, outcome: Option<Outcome>) -> Fact {
    Fact::End(TaskEnd { task, outcome, message: MARK.to_owned(), spent: Spent::micros(u64::MAX) })
}

/// Two rows from the end of time, whose number is a word.
fn rows() -> Rows {
    let pid = ColumnDecl { name: "pid".to_owned(), kind: ColumnType::Text };
    let odd = ColumnDecl { name: "\"; DROP TABLE hunt".to_owned(), kind: ColumnType::Text };
    let json =
        format!("[{{\"pid\":\"{MARK}\",\"\\\"; DROP TABLE hunt\":1}},{{\"pid\":\"{MARK}\"}}]");
    Rows {
        task: None,
        source: String::new(),
        columns: vec![pid, odd],
        format: RowFormat::Array,
        json: json.into(),
        endpoint_time: Some(Timestamp(i64::MAX)),
        delta: Delta::None,
    }
}
