//! The fold, alone: facts in, rows and outcomes out. No codec, no store, no runtime.

mod fleetspeak;
mod hostile;
mod native;
mod osquery;
mod scheduled;
mod state;
mod tasks;
mod uploads;
mod velociraptor;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use muster_stream::Entry;
use muster_types::{
    AgentKind, AgentNo, Body, Class, Delta, Fact, Facts, HuntNo, OrgId, Outcome, Payload, Poison,
    Pos, Record, Repeat, RowFormat, Rows, Spent, TaskEnd, TaskFact, TaskId, Timestamp,
};

use super::{
    Counted, Effects, HuntLookup, HuntView, Keeps, RowAt, RowSink, ShardState, StateStep,
    SystemRow, Target, apply,
};

const AGENT: AgentNo = AgentNo(7);

/// Rows as they were stored: (table, text, late).
#[derive(Default)]
struct Sink {
    rows: Vec<(String, String, bool)>,
    errors: Vec<String>,
    ends: Vec<(u64, u16, Outcome, u64, String)>,
    logs: Vec<String>,
    unchanged: Vec<String>,
    blocks: Vec<(u64, u32, Vec<u8>)>,
    steps: Vec<scheduled::Stepped>,
}

impl RowSink for Sink {
    fn rows(
        &mut self,
        target: Target<'_>,
        at: &RowAt,
        format: RowFormat,
        json: &[u8],
    ) -> Result<Counted, String> {
        let table = match target {
            Target::Hunt(hunt, _) => format!("hunt_{hunt}"),
            Target::Scheduled(source, _) => source.to_owned(),
            Target::Other(source, action) => {
                format!("other {source} {}", action.map_or("-", |action| action.as_str()))
            }
        };
        let rows: Vec<serde_json::Value> = match format {
            RowFormat::Array => serde_json::from_slice(json).map_err(|e| e.to_string())?,
            RowFormat::Lines => serde_json::Deserializer::from_slice(json)
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|e| e.to_string())?,
        };
        for row in &rows {
            self.rows.push((table.clone(), row.to_string(), at.late));
        }
        Ok(Counted { rows: rows.len() as u64, bytes: json.len() as u64 })
    }

    fn state(
        &mut self,
        step: &StateStep<'_>,
        at: &RowAt,
        format: RowFormat,
        json: &[u8],
    ) -> Result<(), String> {
        let before = self.rows.len();
        self.rows(Target::Scheduled(step.source, None), at, format, json)?;
        let rows = self.rows.split_off(before).into_iter().map(|row| row.1);
        self.steps.push(scheduled::Stepped::new(step, rows.collect()));
        Ok(())
    }

    fn mark(&mut self, step: &StateStep<'_>, _: &RowAt) {
        self.steps.push(scheduled::Stepped::new(step, Vec::new()));
    }

    fn system(&mut self, at: &RowAt, row: &SystemRow<'_>) {
        match *row {
            SystemRow::Collection { outcome, rows, message, .. } => {
                let task = at.task.unwrap();
                self.ends.push((task.hunt.0, task.attempt, outcome, rows, message.to_owned()));
            }
            SystemRow::Error { source, message } => {
                self.errors.push(format!("{source}: {message}"));
            }
            SystemRow::Log { message, .. } => self.logs.push(message.to_owned()),
            SystemRow::Unchanged { source, .. } => self.unchanged.push(source.to_owned()),
            SystemRow::Block { upload, index, bytes } => {
                self.blocks.push((upload.0, index, bytes.to_vec()));
            }
        }
    }
}

#[derive(Default)]
struct Hunts {
    views: BTreeMap<HuntNo, HuntView>,
    recruited: BTreeSet<(HuntNo, AgentNo)>,
}

impl HuntLookup for Hunts {
    fn hunt(&self, hunt: HuntNo) -> Option<HuntView> {
        self.views.get(&hunt).copied()
    }

    fn is_recruited(&self, hunt: HuntNo, agent: AgentNo) -> bool {
        self.recruited.contains(&(hunt, agent))
    }

    fn scheduled(&self, _: OrgId, _: AgentKind, source: &str) -> Option<Keeps> {
        let keeps = if source == "pack.events" { Keeps::Events } else { Keeps::State };
        source.starts_with("pack.").then_some(keeps)
    }
}

/// A shard with one agent, and hunts 1 to 3 that recruited it; hunt 9 did not.
struct Rig {
    state: ShardState,
    hunts: Hunts,
    sink: Sink,
    kind: AgentKind,
    pos: u64,
}

impl Rig {
    fn new(kind: AgentKind) -> Self {
        let mut hunts = Hunts::default();
        for no in [1, 2, 3, 9] {
            let view = HuntView {
                org: OrgId::DEFAULT,
                rows_per_endpoint: 100,
                bytes_per_endpoint: 10_000,
                interactive: false,
                watched: true,
            };
            hunts.views.insert(HuntNo(no), view);
            if no != 9 {
                hunts.recruited.insert((HuntNo(no), AGENT));
            }
        }
        let state = ShardState::new(AGENT.shard());
        Self { state, hunts, sink: Sink::default(), kind, pos: 0 }
    }

    fn entry(&mut self, body: Body) -> Entry {
        self.pos += 3;
        let received_at = Timestamp(1_000_000 * self.pos as i64);
        let (kind, class) = (self.kind, Class::Collected);
        let record = Record { org: OrgId::DEFAULT, agent: AGENT, kind, class, received_at, body };
        Entry { pos: Pos(self.pos), record }
    }

    fn tell(&mut self, repeat: Repeat, items: Vec<Fact>) -> Effects {
        let entry = self.entry(Body::Wire(Payload::Inline(Bytes::new())));
        let facts = Some(Ok(Facts { repeat, items }));
        apply(&mut self.state, &self.hunts, &entry, facts, &mut self.sink)
    }

    fn poison(&mut self, reason: &str) {
        let entry = self.entry(Body::Wire(Payload::Inline(Bytes::new())));
        let poison = Poison { reason: reason.to_owned() };
        apply(&mut self.state, &self.hunts, &entry, Some(Err(poison)), &mut self.sink);
    }

    fn fact(&mut self, fact: TaskFact) -> Effects {
        let entry = self.entry(Body::Fact(fact));
        apply(&mut self.state, &self.hunts, &entry, None, &mut self.sink)
    }

    /// As a worker that starts again: from what was stored alone.
    fn restart(&mut self) {
        let mut fresh = ShardState::new(AGENT.shard());
        fresh.read(&self.state.encode_base(ShardState::FORMAT.newest)).unwrap();
        for no in [1, 2, 3, 9] {
            if let Some(progress) = self.state.progress(HuntNo(no)) {
                fresh.put_progress(HuntNo(no), progress.clone());
            }
        }
        self.state = fresh;
    }

    fn outcome(&self, hunt: u64) -> Outcome {
        self.state.progress(HuntNo(hunt)).map_or(Outcome::Waiting, |p| p.outcome(AGENT))
    }

    fn texts(&self) -> Vec<&str> {
        self.sink.rows.iter().map(|(_, text, _)| text.as_str()).collect()
    }

    fn lates(&self) -> Vec<bool> {
        self.sink.rows.iter().map(|(_, _, late)| *late).collect()
    }
}

fn task(hunt: u64) -> TaskId {
    attempt(hunt, 1)
}

fn attempt(hunt: u64, attempt: u16) -> TaskId {
    TaskId { hunt: HuntNo(hunt), attempt }
}

fn rows_of(task: Option<TaskId>, source: &str, values: &[u32]) -> Fact {
    let json: Vec<String> = values.iter().map(|v| format!("{{\"v\":{v}}}")).collect();
    Fact::Rows(Rows {
        task,
        source: source.to_owned(),
        columns: Vec::new(),
        format: RowFormat::Array,
        json: format!("[{}]", json.join(",")).into(),
        endpoint_time: None,
        delta: Delta::None,
    })
}

fn rows(task: TaskId, values: &[u32]) -> Fact {
    rows_of(Some(task), "", values)
}

fn scheduled(source: &str, values: &[u32], snapshot: bool) -> Fact {
    let Fact::Rows(rows) = rows_of(None, source, values) else { unreachable!() };
    let delta = if snapshot { Delta::SNAPSHOT } else { Delta::None };
    Fact::Rows(Rows { delta, ..rows })
}

fn end_with(task: TaskId, outcome: Option<Outcome>, message: &str) -> Fact {
    Fact::End(TaskEnd { task, outcome, message: message.to_owned(), spent: Spent::micros(5) })
}

fn end(task: TaskId) -> Fact {
    end_with(task, None, "")
}

fn ended(task: TaskId, outcome: Outcome) -> TaskFact {
    TaskFact::Ended { task, outcome, reason: "by the server".to_owned() }
}
