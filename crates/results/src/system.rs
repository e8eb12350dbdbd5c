//! The columns every result table has.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::table::{Action, Origin, RowMeta, Step};

/// A column that every result table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemColumn {
    /// Its name.
    pub name: &'static str,
    /// Whether `SELECT *` leaves it out.
    pub hidden: bool,
}

const fn shown(name: &'static str) -> SystemColumn {
    SystemColumn { name, hidden: false }
}

const fn hidden(name: &'static str) -> SystemColumn {
    SystemColumn { name, hidden: true }
}

/// All of them. In a table the shown ones come first, then its own columns, then the hidden ones.
/// `endpoint_time`, `_source`, `_action`, `_raw` and `_extra` are left out of a part where they are NULL throughout.
pub const SYSTEM_COLUMNS: [SystemColumn; 15] = [
    shown("agent"),
    shown("agent_kind"),
    shown("hunt"),
    shown("attempt"),
    shown("late"),
    shown("received_time"),
    shown("endpoint_time"),
    hidden("_org"),
    hidden("_shard"),
    hidden("_pos"),
    hidden("_row"),
    hidden("_source"),
    hidden("_action"),
    hidden("_raw"),
    hidden("_extra"),
];

/// What parts of [`crate::RowClass::Current`] have besides `agent`, `agent_kind`, `received_time` and `_source`.
/// `_count` is how often a row came less how often it went; 0 for a mark, which holds no row but the
/// generation of its agent and source, and in `_gap` whether something is missing.
pub const CURRENT_COLUMNS: [&str; 3] = ["_generation", "_count", "_gap"];

/// The Arrow fields of the system columns of a current part: those before its own, and those behind.
#[must_use]
pub fn current_fields() -> ([Field; 3], [Field; 4]) {
    let field = |name, kind| Field::new(name, kind, false);
    (
        [
            field("agent", DataType::Int64),
            field("agent_kind", DataType::Utf8),
            field("received_time", time_type()),
        ],
        [
            field("_source", DataType::Utf8),
            field("_generation", DataType::Int64),
            field("_count", DataType::Int32),
            field("_gap", DataType::Boolean),
        ],
    )
}

/// The Arrow type of times.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow fields of [`SYSTEM_COLUMNS`], in the same order.
#[must_use]
pub fn system_fields() -> [Field; 15] {
    let field = |name, kind, null| Field::new(name, kind, null);
    [
        field("agent", DataType::Int64, false),
        field("agent_kind", DataType::Utf8, false),
        field("hunt", DataType::Int64, true),
        field("attempt", DataType::Int32, false),
        field("late", DataType::Boolean, false),
        field("received_time", time_type(), false),
        field("endpoint_time", time_type(), true),
        field("_org", DataType::UInt32, false),
        field("_shard", DataType::UInt32, false),
        field("_pos", DataType::UInt64, false),
        field("_row", DataType::UInt32, false),
        field("_source", DataType::Utf8, true),
        field("_action", DataType::Utf8, true),
        field("_raw", DataType::Utf8, true),
        field("_extra", DataType::Utf8, true),
    ]
}

/// Rows of one append, next to each other in a table's buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub meta: RowMeta,
    /// First row in the buffer.
    pub start: usize,
    pub len: usize,
    /// `_row` of the first.
    pub first: u32,
    pub origin: RunOrigin,
}

/// An [`Origin`] whose source stands in the table's list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunOrigin {
    source: Option<u32>,
    action: Option<Action>,
    generation: u32,
    count: i32,
    gap: bool,
}

/// The sources of a table's runs.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<String>);

impl Sources {
    /// Takes an origin in. Mostly its source is that of the run before.
    pub(crate) fn place(&mut self, origin: Origin<'_>) -> RunOrigin {
        match origin {
            Origin::Task => RunOrigin::default(),
            Origin::Scheduled { source, action } => {
                RunOrigin { source: Some(self.slot(source)), action, ..RunOrigin::default() }
            }
            Origin::Current { source, generation, step } => RunOrigin {
                source: Some(self.slot(source)),
                action: None,
                generation,
                count: match step {
                    Step::Add => 1,
                    Step::Remove => -1,
                    Step::Mark | Step::Gap => 0,
                },
                gap: step == Step::Gap,
            },
        }
    }

    fn slot(&mut self, source: &str) -> u32 {
        let known = self.0.iter().rposition(|known| known == source);
        let slot = known.unwrap_or_else(|| {
            self.0.push(source.to_owned());
            self.0.len() - 1
        });
        u32::try_from(slot).expect("fewer sources than rows")
    }

    fn name(&self, origin: &RunOrigin) -> Option<&str> {
        origin.source.map(|slot| self.0[slot as usize].as_str())
    }
}

fn spread<T: Clone>(runs: &[Run], rows: usize, of: impl Fn(&Run) -> T) -> Vec<T> {
    let mut out = Vec::with_capacity(rows);
    for run in runs {
        out.extend(repeat_n(of(run), run.len));
    }
    out
}

/// Columns with their fields.
type Columns = Vec<(Field, ArrayRef)>;

/// The system columns of `runs` for a part of [`crate::RowClass::Current`]: before its own and behind.
pub(crate) fn current_columns(runs: &[Run], rows: usize, sources: &Sources) -> (Columns, Columns) {
    let (before, behind) = current_fields();
    let times: TimestampMicrosecondArray = spread(runs, rows, |r| r.meta.received_at.0).into();
    let first: [ArrayRef; 3] = [
        Arc::new(Int64Array::from(spread(runs, rows, |r| i64::from(r.meta.agent.0)))),
        Arc::new(StringArray::from(spread(runs, rows, |r| r.meta.agent_kind.as_str()))),
        Arc::new(times.with_timezone("UTC")),
    ];
    let names = spread(runs, rows, |r| sources.name(&r.origin).unwrap_or_default());
    let last: [ArrayRef; 4] = [
        Arc::new(StringArray::from(names)),
        Arc::new(Int64Array::from(spread(runs, rows, |r| i64::from(r.origin.generation)))),
        Arc::new(Int32Array::from(spread(runs, rows, |r| r.origin.count))),
        Arc::new(BooleanArray::from(spread(runs, rows, |r| r.origin.gap))),
    ];
    (before.into_iter().zip(first).collect(), behind.into_iter().zip(last).collect())
}

/// The system columns of `runs`, in their order, without `_raw` and `_extra`.
pub(crate) fn columns(runs: &[Run], rows: usize, sources: &Sources) -> Vec<(Field, ArrayRef)> {
    fn metas<T: Clone>(runs: &[Run], rows: usize, of: impl Fn(&RowMeta) -> T) -> Vec<T> {
        spread(runs, rows, |run| of(&run.meta))
    }
    let times = |values: TimestampMicrosecondArray| Arc::new(values.with_timezone("UTC"));
    let kinds = metas(runs, rows, |m| m.agent_kind.as_str());
    let shown =
        |at: muster_types::Timestamp| Some(at.0).filter(|at| crate::cell::is_in_calendars(*at));
    let endpoint_time = metas(runs, rows, |m| m.endpoint_time.and_then(shown));
    let told = endpoint_time.iter().any(Option::is_some);
    let hunts = metas(runs, rows, |m| i64::try_from(m.hunt.0).ok().filter(|no| *no > 0));
    let row_numbers = runs.iter().flat_map(|run| (run.first..).take(run.len));
    let names: StringArray = spread(runs, rows, |run| sources.name(&run.origin)).into();
    let actions = spread(runs, rows, |run| run.origin.action.map(Action::as_str));
    let actions: StringArray = actions.into();
    let some =
        |array: StringArray| (array.null_count() < rows).then(|| Arc::new(array) as ArrayRef);
    let mut arrays: [Option<ArrayRef>; 15] = [
        Some(Arc::new(Int64Array::from(metas(runs, rows, |m| i64::from(m.agent.0))))),
        Some(Arc::new(StringArray::from(kinds))),
        Some(Arc::new(Int64Array::from(hunts))),
        Some(Arc::new(Int32Array::from(metas(runs, rows, |m| i32::from(m.attempt))))),
        Some(Arc::new(BooleanArray::from(metas(runs, rows, |m| m.late)))),
        Some(times(metas(runs, rows, |m| m.received_at.0).into())),
        told.then(|| times(endpoint_time.into()) as ArrayRef),
        Some(Arc::new(UInt32Array::from(metas(runs, rows, |m| u32::from(m.org.0))))),
        Some(Arc::new(UInt32Array::from(metas(runs, rows, |m| u32::from(m.shard.get()))))),
        Some(Arc::new(UInt64Array::from(metas(runs, rows, |m| m.pos.0)))),
        Some(Arc::new(UInt32Array::from_iter_values(row_numbers))),
        some(names),
        some(actions),
        None,
        None,
    ];
    let named = system_fields().into_iter().zip(&mut arrays);
    named.filter_map(|(field, array)| Some((field, array.take()?))).collect()
}
