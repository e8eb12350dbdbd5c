//! Rows that agents send by themselves: as they came, and as steps of their source's state.

use muster_results::{Action, Step as Change};
use muster_types::{AgentKind, Delta, Rows};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::agent::{AgentState, Known, Runs, SourceState};
use super::apply::{Step, clip};
use super::{Keeps, RowAt, StateStep, SystemRow, Target};

/// Longest name of a source that nobody here scheduled, in bytes.
const NAME_MAX: usize = 512;

/// What a message does to the state of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    generation: u32,
    /// The mark to set. Rows never go without: merging finds their generation by it.
    mark: Option<Change>,
    /// What the rows do; `None` when the state has none.
    rows: Option<Change>,
    /// A run is missing, or more than one.
    missed: Option<(u64, u64)>,
}

impl Step<'_> {
    pub fn scheduled_rows(&mut self, rows: &Rows) {
        let source = rows.source.as_str();
        let at = RowAt { endpoint_time: rows.endpoint_time, ..self.at() };
        let action = action(rows.delta);
        let Some(keeps) = self.lookup.scheduled(self.record.org, self.record.kind, source) else {
            return self.unknown(&at, rows, action);
        };
        if rows.delta == Delta::SNAPSHOT && self.is_unchanged(&at, rows) {
            return;
        }
        let target = Target::Scheduled(source, action);
        let stored = match self.sink.rows(target, &at, rows.format, &rows.json) {
            Ok(counted) => {
                self.counters.rows += counted.rows;
                true
            }
            Err(why) => {
                self.refuse(&at, source, &why);
                false
            }
        };
        if let Some(step) = moved(self.agent, rows, keeps, stored, self.record.received_at) {
            self.state(&at, rows, step);
        }
    }

    /// A foreign configuration may schedule what we do not know: kept, not refused.
    fn unknown(&mut self, at: &RowAt, rows: &Rows, action: Option<Action>) {
        let source = &rows.source[..rows.source.floor_char_boundary(NAME_MAX)];
        if self.record.kind != AgentKind::Osquery {
            let message = format!("nothing is scheduled under the name {:?}", clip(source));
            return self.refuse(at, "rows", &message);
        }
        match self.sink.rows(Target::Other(source, action), at, rows.format, &rows.json) {
            Ok(counted) => self.counters.rows += counted.rows,
            Err(why) => self.refuse(at, source, &why),
        }
    }

    /// Whether the state is what it was; then that is recorded, and nothing else.
    fn is_unchanged(&mut self, at: &RowAt, rows: &Rows) -> bool {
        let source = rows.source.as_str();
        let Some(state) = self.agent.source(xxh3_64(source.as_bytes())).copied() else {
            return false;
        };
        let Known::Whole { hash, since } = state.known else { return false };
        if hash != content(rows) {
            return false;
        }
        self.counters.unchanged += 1;
        self.sink.system(at, &SystemRow::Unchanged { source, since });
        let step = StateStep { source, generation: state.generation, step: Change::Mark };
        self.sink.mark(&step, at);
        true
    }

    fn state(&mut self, at: &RowAt, rows: &Rows, step: Move) {
        let source = rows.source.as_str();
        let generation = step.generation;
        if let Some((first, last)) = step.missed {
            self.counters.gaps += 1;
            let message = match last - first {
                0 => format!("run {first} never came"),
                _ => format!("runs {first} to {last} never came"),
            };
            self.error(at, source, &message);
        }
        if let Some(step) = step.mark {
            self.sink.mark(&StateStep { source, generation, step }, at);
        }
        let Some(step) = step.rows else { return };
        let step = StateStep { source, generation, step };
        if let Err(why) = self.sink.state(&step, at, rows.format, &rows.json) {
            self.refuse(at, source, &why);
            self.sink.mark(&StateStep { step: Change::Gap, ..step }, at);
        }
    }
}

fn action(delta: Delta) -> Option<Action> {
    match delta {
        Delta::None => None,
        Delta::Snapshot { .. } => Some(Action::Snapshot),
        Delta::Added { .. } => Some(Action::Added),
        Delta::Removed { .. } => Some(Action::Removed),
    }
}

fn content(rows: &Rows) -> [u64; 2] {
    let hash = xxh3_128(&rows.json);
    [(hash >> 64) as u64, hash as u64]
}

/// What rows do to their source's state. Those that could not be `stored` leave a gap behind, or the state as
/// it was where they would have been all of it.
fn moved(
    agent: &mut AgentState,
    rows: &Rows,
    keeps: Keeps,
    stored: bool,
    now: muster_types::Timestamp,
) -> Option<Move> {
    let source = xxh3_64(rows.source.as_bytes());
    let (epoch, counter, change) = match rows.delta {
        Delta::None => return None,
        Delta::Snapshot { run: None } if !stored => return None,
        Delta::Snapshot { run: None } => {
            let known = Known::Whole { hash: content(rows), since: now };
            return Some(Move::part(agent.begin(source, known), true));
        }
        Delta::Snapshot { run: Some(run) } => {
            let generation = match agent.source(source) {
                Some(SourceState { generation, known: Known::Parts { run: last }, .. })
                    if *last == run =>
                {
                    *generation
                }
                _ => agent.begin(source, Known::Parts { run }),
            };
            return Some(Move::part(generation, stored));
        }
        Delta::Added { .. } | Delta::Removed { .. } if keeps == Keeps::Events => return None,
        Delta::Added { epoch, counter } => (epoch, counter, Change::Add),
        Delta::Removed { epoch, counter } => (epoch, counter, Change::Remove),
    };
    let run = Run { epoch, counter, at: rows.endpoint_time.map_or(0, |at| at.0) };
    let mut step = run.follow(agent, source, !stored);
    step.rows = step.rows.map(|_| change).filter(|_| stored);
    Some(step)
}

impl Move {
    /// Rows of a snapshot.
    fn part(generation: u32, stored: bool) -> Self {
        let mark = if stored { Change::Mark } else { Change::Gap };
        let rows = stored.then_some(Change::Add);
        Self { generation, mark: Some(mark), rows, missed: None }
    }
}

/// A run of a differential query.
#[derive(Clone, Copy, Debug)]
struct Run {
    epoch: u64,
    counter: u64,
    at: i64,
}

impl Run {
    /// What it does to its source's state; `rows` is set when the state has rows. `lost` says that its
    /// rows are, so the state is not whole any more.
    fn follow(self, agent: &mut AgentState, source: u64, lost: bool) -> Move {
        let Self { epoch, counter, at } = self;
        let known = agent.source(source).and_then(|state| match &mut state.known {
            Known::Runs(runs) if runs.epoch == epoch => Some((state.generation, runs)),
            _ => None,
        });
        let Some((generation, runs)) = known.filter(|(_, runs)| !self.begins(runs)) else {
            let based = counter == 0;
            let runs = Runs { epoch, counter, at, based, gap: !based || lost };
            let generation = agent.begin(source, Known::Runs(runs));
            let mark = if runs.gap { Change::Gap } else { Change::Mark };
            let rows = based.then_some(Change::Add);
            return Move { generation, mark: Some(mark), rows, missed: None };
        };
        let same = self.is_more_of(runs);
        let next = counter == runs.counter.saturating_add(1);
        let missed = (counter > runs.counter && !next && runs.based)
            .then(|| (runs.counter.saturating_add(1), counter - 1));
        let gap = lost || !(same || next);
        (runs.counter, runs.at) = (counter, at);
        runs.gap |= gap;
        if !runs.based {
            return Move { generation, mark: None, rows: None, missed: None };
        }
        let mark = Some(if runs.gap { Change::Gap } else { Change::Mark });
        Move { generation, mark, rows: Some(Change::Add), missed }
    }

    /// Whether these rows belong to the run that was seen last: a run comes in many lines.
    fn is_more_of(self, runs: &Runs) -> bool {
        let when = self.at == runs.at || self.at == 0 || runs.at == 0;
        self.counter == runs.counter && when
    }

    /// Whether the state begins anew.
    fn begins(self, runs: &Runs) -> bool {
        self.counter == 0 && !self.is_more_of(runs)
    }
}
