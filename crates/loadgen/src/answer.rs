//! Answers of simulated agents: the agent's own engine over the endpoint's tables, or canned rows.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use muster_agent::query::{Bounds, Engine};
use muster_codec_native::Task;
use muster_types::{
    ColumnDecl, ColumnType, Delta, Fact, Outcome, RowFormat, Rows, Spent, TaskEnd, Timestamp,
};
use tokio::sync::Semaphore;

use crate::fleet::{Current, Endpoint, tables};

/// No simulated endpoint gives more.
const BOUNDS: Bounds = Bounds { rows_max: 100_000, bytes_max: 4 << 20 };

/// What an agent will send: batches' contents, in order, and how many rows are in them.
pub(crate) struct Answer {
    pub(crate) items: Vec<Fact>,
    pub(crate) row_count: u64,
}

/// A few engines shared by all agents.
pub(crate) struct Answerer {
    idle: Mutex<Vec<(Engine, Current)>>,
    turns: Semaphore,
    canned: Option<(Bytes, Vec<ColumnDecl>, u64)>,
}

impl Answerer {
    /// With `engines` at a time; with `canned` rows no query is run.
    pub(crate) fn new(engines: usize, canned: Option<u32>) -> Self {
        Self {
            idle: Mutex::new(Vec::new()),
            turns: Semaphore::new(engines),
            canned: canned.map(canned_rows),
        }
    }

    /// An endpoint's answer to a task.
    pub(crate) async fn answer(
        &self,
        endpoint: Endpoint,
        task: Task,
        at: Timestamp,
    ) -> anyhow::Result<Answer> {
        if let Some((json, columns, row_count)) = &self.canned {
            let rows = rows(&task, columns.clone(), json.clone(), at);
            let items = vec![Fact::Rows(rows), end(&task, None, String::new())];
            return Ok(Answer { items, row_count: *row_count });
        }
        let _turn = self.turns.acquire().await?;
        let taken = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = move || -> anyhow::Result<_> {
            let (engine, current) = match taken {
                Some(taken) => taken,
                None => {
                    let current = Current::default();
                    (Engine::open(tables(&current), None)?, current)
                }
            };
            current.set(endpoint);
            let answer = run(&engine, &task, at);
            Ok((answer, (engine, current)))
        };
        let (answer, engine) = tokio::task::spawn_blocking(work).await??;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
        Ok(answer)
    }
}

fn run(engine: &Engine, task: &Task, at: Timestamp) -> Answer {
    let mut items = Vec::new();
    let answer = engine.run(&task.query, &task.params, BOUNDS, &mut |chunk, json| {
        let json = Bytes::copy_from_slice(json);
        items.push(Fact::Rows(rows(task, chunk.columns.clone(), json, at)));
        Ok(())
    });
    items.push(match answer.result {
        Ok(()) => end(task, None, engine.warnings().join("; ")),
        Err(error) => end(task, Some(Outcome::Failed), error.to_string()),
    });
    Answer { items, row_count: answer.row_count }
}

/// The end of a task and nothing else.
pub(crate) fn end(task: &Task, outcome: Option<Outcome>, message: String) -> Fact {
    Fact::End(TaskEnd { task: task.task, outcome, message, spent: Spent::micros(1000) })
}

fn rows(task: &Task, columns: Vec<ColumnDecl>, json: Bytes, at: Timestamp) -> Rows {
    Rows {
        task: Some(task.task),
        source: String::new(),
        columns,
        format: RowFormat::Array,
        json,
        endpoint_time: Some(at),
        delta: Delta::None,
    }
}

/// Rows of about 200 bytes, the same from every agent.
fn canned_rows(count: u32) -> (Bytes, Vec<ColumnDecl>, u64) {
    let mut json = String::from("[");
    for n in 0..count {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(
            json,
            "{comma}{{\"pid\":{},\"name\":\"postgres\",\"path\":\"/usr/lib/postgresql/15/bin/postgres\",\
             \"cmdline\":\"/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main\",\
             \"uid\":102,\"resident_size\":{}}}",
            1000 + n,
            1_048_576 + n,
        );
    }
    json.push(']');
    let kinds = [
        ("pid", ColumnType::Int),
        ("name", ColumnType::Text),
        ("path", ColumnType::Text),
        ("cmdline", ColumnType::Text),
        ("uid", ColumnType::Int),
        ("resident_size", ColumnType::Int),
    ];
    let columns = kinds.map(|(name, kind)| ColumnDecl { name: name.to_owned(), kind }).to_vec();
    (json.into(), columns, u64::from(count))
}
