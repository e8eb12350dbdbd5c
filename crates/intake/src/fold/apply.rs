//! One entry of the stream, applied to the state of its shard.

use muster_stream::Entry;
use muster_types::{AgentNo, Body, Fact, Facts, Poison, Record, Repeat, Spent, TaskEnd, Timestamp};

use super::agent::AgentState;
use super::items::{after_rows, keep_rows};
use super::repeat::{Admission, admit};
use super::shard::Counters;
use super::{Effects, HuntLookup, RowAt, RowSink, ShardProgress, ShardState, SystemRow};

/// What [`Fact::Dropped`] names when lines of scheduled rows are gone.
const LOG: &str = "log";

/// Longest text of an agent that is kept in a system row, in bytes.
const MAX_TEXT: usize = 16 << 10;

/// Folds one entry into the state.
///
/// `facts` is what the decoder of the record's kind made of a [`Body::Wire`]; `None` when there is no
/// decoder for the kind. It is not looked at for a [`Body::Fact`].
pub fn apply(
    state: &mut ShardState,
    lookup: &dyn HuntLookup,
    entry: &Entry,
    facts: Option<Result<Facts, Poison>>,
    sink: &mut dyn RowSink,
) -> Effects {
    let record = &entry.record;
    debug_assert_eq!(record.shard(), state.shard, "an entry belongs to its shard");
    let local = record.agent.local();
    let mut step = Step {
        agent: state.agents.take_up(local),
        hunts: &mut state.hunts,
        changed_hunts: &mut state.changed_hunts,
        uploads_done: &mut state.uploads_done,
        counters: &mut state.counters,
        lookup,
        sink,
        record,
        entry,
        effects: Effects::default(),
    };
    match (&record.body, facts) {
        (Body::Fact(fact), _) => step.server_fact(fact),
        (Body::Wire(_), Some(Ok(facts))) => step.message(facts),
        (Body::Wire(_), Some(Err(poison))) => step.poison(&poison.reason),
        (Body::Wire(_), None) => {
            let reason = format!("no decoder for messages of {} agents", record.kind);
            step.poison(&reason);
        }
    }
    let effects = step.effects;
    state.changed_agents.insert(local);
    effects
}

/// Everything at hand while one entry is folded.
pub(super) struct Step<'a> {
    pub agent: &'a mut AgentState,
    pub hunts: &'a mut std::collections::BTreeMap<muster_types::HuntNo, ShardProgress>,
    pub changed_hunts: &'a mut std::collections::BTreeSet<muster_types::HuntNo>,
    pub uploads_done: &'a mut Vec<super::UploadDone>,
    pub counters: &'a mut Counters,
    pub lookup: &'a dyn HuntLookup,
    pub sink: &'a mut dyn RowSink,
    pub record: &'a Record,
    pub entry: &'a Entry,
    pub effects: Effects,
}

impl Step<'_> {
    pub fn agent_no(&self) -> AgentNo {
        self.record.agent
    }

    pub fn now(&self) -> Timestamp {
        self.record.received_at
    }

    /// System columns of a row of this entry.
    pub fn at(&self) -> RowAt {
        RowAt {
            org: self.record.org,
            agent: self.record.agent,
            kind: self.record.kind,
            shard: self.record.shard(),
            pos: self.entry.pos,
            received_at: self.record.received_at,
            endpoint_time: None,
            task: None,
            late: false,
        }
    }

    /// Puts a row into `errors`.
    pub fn error(&mut self, at: &RowAt, source: &str, message: &str) {
        let message = clip(message);
        self.sink.system(at, &SystemRow::Error { source, message });
    }

    /// The same, for something that was not taken.
    pub fn refuse(&mut self, at: &RowAt, source: &str, message: &str) {
        self.counters.refused += 1;
        self.error(at, source, message);
    }

    fn poison(&mut self, reason: &str) {
        self.counters.poison += 1;
        self.error(&self.at(), "message", reason);
    }

    fn message(&mut self, facts: Facts) {
        let whole = matches!(facts.repeat, Repeat::Idempotent);
        match admit(self.agent, &facts) {
            Admission::Repeat => self.counters.repeats += 1,
            Admission::New { skip, gap } => {
                if let Some(gap) = gap {
                    self.counters.gaps += 1;
                    self.error(&self.at(), "sequence", &gap);
                }
                self.counters.repeats += u64::from(skip > 0);
                self.items(facts.items.into_iter().skip(skip), None);
            }
            Admission::Within { skip, rows } => {
                self.counters.repeats += 1;
                let mut items = facts.items.into_iter().skip(skip);
                match items.next().map(|first| after_rows(first, rows)) {
                    Some(Some(first)) => self.items(std::iter::once(first).chain(items), None),
                    _ => {
                        let message = "a line was here before and cannot be told from its group";
                        self.refuse(&self.at(), "rows", message);
                        self.items(items, None);
                    }
                }
            }
            Admission::Whole => {
                debug_assert!(whole, "only such messages are taken whole");
                self.whole(facts.items);
            }
            Admission::Held { flow, part, below } => {
                self.items(facts.items.into_iter(), Some((flow, part, below)));
                self.release(flow, part);
            }
            Admission::Pieces { flow, part, below, pieces } => {
                self.counters.repeats += 1;
                let Repeat::RowRange { start, end, .. } = facts.repeat else { return };
                match keep_rows(facts.items, end - start, &pieces) {
                    Some(items) => self.items(items.into_iter(), Some((flow, part, below))),
                    None => {
                        let message =
                            "rows overlap with rows that were here before and cannot be told apart";
                        self.refuse(&self.at(), "rows", message);
                    }
                }
                self.release(flow, part);
            }
            Admission::Refused(reason) => self.refuse(&self.at(), "message", &reason),
        }
    }

    fn items(&mut self, items: impl Iterator<Item = Fact>, hold: Option<(u64, u64, u64)>) {
        for item in items {
            match item {
                Fact::Rows(rows) => self.rows(&rows),
                Fact::Started(task) => self.started(task),
                Fact::Log { level, message } => self.log(&level, &message),
                Fact::Block(block) => self.block(&block),
                Fact::Dropped { source, message } => self.dropped(&source, &message),
                Fact::End(end) => match hold {
                    Some((flow, part, below)) => {
                        let entry = self.agent.part(flow, part);
                        if entry.seen.complete_below(below) {
                            self.end(&end);
                        } else {
                            let message = clip(&end.message).to_owned();
                            // Of what it cost the state keeps the time.
                            let spent = Spent::micros(end.spent.elapsed_micros);
                            entry.held = Some((below, TaskEnd { message, spent, ..end }));
                        }
                    }
                    None => self.end(&end),
                },
            }
        }
    }

    /// Lets an end take effect whose rows are all there now.
    fn release(&mut self, flow: u64, part: u64) {
        let entry = self.agent.part(flow, part);
        let Some((below, _)) = entry.held else { return };
        if entry.seen.complete_below(below)
            && let Some((_, end)) = entry.held.take()
        {
            self.end(&end);
        }
    }

    pub fn dropped(&mut self, source: &str, message: &str) {
        if source == LOG {
            self.agent.lose_runs();
        }
        self.refuse(&self.at(), clip_to(source, 128), message);
    }

    pub fn log(&mut self, level: &str, message: &str) {
        let (level, message) = (clip_to(level, 32), clip(message));
        self.sink.system(&self.at(), &SystemRow::Log { level, message });
    }
}

/// The beginning of a text, at most [`MAX_TEXT`] bytes, cut between characters.
pub(super) fn clip(text: &str) -> &str {
    clip_to(text, MAX_TEXT)
}

fn clip_to(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
