//! The fold's rows into a segment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_results::{Cell, Origin, RowClass, RowMeta, SegmentBuilder, TableSpec};
use muster_types::{AgentKind, ColumnDecl, HuntNo, OrgId, RowFormat};

use super::other;
use super::source::HuntInfo;
use super::tables::{AGENT_LOG, COLLECTIONS, ERRORS, OSQUERY_OTHER, UNCHANGED, UPLOAD_BLOCKS};
use crate::fold::{Counted, Keeps, RowAt, RowSink, StateStep, SystemRow, Target};

/// Columns an agent may claim for an ad-hoc query.
const CLAIMED_COLUMNS_MAX: usize = 256;

pub(super) type Schedules = HashMap<(OrgId, AgentKind, String), Scheduled>;

/// Where the rows of a scheduled source go.
#[derive(Debug)]
pub(super) struct Scheduled {
    /// As they came.
    pub table: Arc<TableSpec>,
    /// Their state.
    pub current: Arc<TableSpec>,
    pub keeps: Keeps,
}

impl Scheduled {
    pub fn new(table: Arc<TableSpec>, keeps: Keeps) -> Self {
        let current = TableSpec {
            name: format!("{}_current", table.name),
            class: RowClass::Current,
            columns: table.columns.clone(),
            open: table.open,
        };
        Self { table, current: Arc::new(current), keeps }
    }
}

pub(super) struct SegmentSink<'a> {
    pub builder: &'a mut SegmentBuilder,
    pub hunts: &'a BTreeMap<HuntNo, HuntInfo>,
    pub schedules: &'a Schedules,
    /// The table of the last ad-hoc rows: mostly the next ones are of the same.
    pub last: Option<(HuntNo, Arc<TableSpec>)>,
}

impl SegmentSink<'_> {
    fn scheduled(&self, at: &RowAt, source: &str) -> Option<&Scheduled> {
        self.schedules.get(&(at.org, at.kind, source.to_owned()))
    }

    fn table(&mut self, target: Target<'_>, at: &RowAt) -> Option<Arc<TableSpec>> {
        match target {
            Target::Scheduled(source, _) => Some(self.scheduled(at, source)?.table.clone()),
            Target::Other(..) => Some(OSQUERY_OTHER.clone()),
            Target::Hunt(hunt, claimed) => {
                let table = &self.hunts.get(&hunt)?.table;
                if !table.columns.is_empty() || claimed.is_empty() {
                    return Some(table.clone());
                }
                let claimed = &claimed[..claimed.len().min(CLAIMED_COLUMNS_MAX)];
                Some(self.ad_hoc(hunt, &table.clone(), claimed))
            }
        }
    }

    /// The table of a hunt that declares no columns, with those the agent speaks of.
    fn ad_hoc(
        &mut self,
        hunt: HuntNo,
        table: &Arc<TableSpec>,
        claimed: &[ColumnDecl],
    ) -> Arc<TableSpec> {
        if let Some((last, table)) = &self.last
            && *last == hunt
            && table.columns == claimed
        {
            return table.clone();
        }
        let spec = Arc::new(TableSpec {
            name: table.name.clone(),
            class: table.class,
            columns: claimed.to_vec(),
            open: table.open,
        });
        self.last = Some((hunt, spec.clone()));
        spec
    }
}

impl RowSink for SegmentSink<'_> {
    fn rows(
        &mut self,
        target: Target<'_>,
        at: &RowAt,
        format: RowFormat,
        json: &[u8],
    ) -> Result<Counted, String> {
        let table = self.table(target, at).ok_or(NO_TABLE)?;
        let origin = match target {
            Target::Scheduled(source, action) => Origin::Scheduled { source, action },
            Target::Hunt(..) | Target::Other(..) => Origin::Task,
        };
        let other = match target {
            Target::Other(source, action) => Some(other::rows(source, action, format, json)?),
            _ => None,
        };
        let (format, json) = other.as_deref().map_or((format, json), |o| (RowFormat::Lines, o));
        let appended = self.builder.append_from(&table, &meta(at), origin, format, json);
        let appended = appended.map_err(|error| error.to_string())?;
        Ok(Counted { rows: u64::from(appended.rows), bytes: appended.bytes })
    }

    fn state(
        &mut self,
        step: &StateStep<'_>,
        at: &RowAt,
        format: RowFormat,
        json: &[u8],
    ) -> Result<(), String> {
        let table = self.scheduled(at, step.source).ok_or(NO_TABLE)?.current.clone();
        let appended = self.builder.append_from(&table, &meta(at), origin(step), format, json);
        appended.map(drop).map_err(|error| error.to_string())
    }

    fn mark(&mut self, step: &StateStep<'_>, at: &RowAt) {
        let Some(scheduled) = self.scheduled(at, step.source) else { return };
        let table = scheduled.current.clone();
        self.builder.append_row_from(&table, &meta(at), origin(step), &[]);
    }

    fn system(&mut self, at: &RowAt, row: &SystemRow<'_>) {
        let meta = meta(at);
        match *row {
            SystemRow::Collection { outcome, rows, bytes, started, spent, message } => {
                let told = |number: Option<u64>| number.map_or(Cell::Null, self::number);
                let used = spent.and_then(|spent| spent.used);
                let status = spent.and_then(|spent| spent.status);
                self.builder.append_row(
                    &COLLECTIONS,
                    &meta,
                    &[
                        ("outcome", Cell::Text(outcome.as_str())),
                        ("rows", number(rows)),
                        ("bytes", number(bytes)),
                        ("started_time", started.map_or(Cell::Null, Cell::Time)),
                        ("finished_time", Cell::Time(at.received_at)),
                        ("elapsed_us", told(spent.map(|spent| spent.elapsed_micros))),
                        ("message", Cell::Text(message)),
                        ("status", status.map_or(Cell::Null, Cell::Int)),
                        ("user_us", told(used.map(|used| used.user_micros))),
                        ("system_us", told(used.map(|used| used.system_micros))),
                        ("memory_bytes", told(used.map(|used| used.memory_bytes))),
                    ],
                );
            }
            SystemRow::Error { source, message } => self.builder.append_row(
                &ERRORS,
                &meta,
                &[("source", Cell::Text(source)), ("message", Cell::Text(message))],
            ),
            SystemRow::Log { level, message } => self.builder.append_row(
                &AGENT_LOG,
                &meta,
                &[("level", Cell::Text(level)), ("message", Cell::Text(message))],
            ),
            SystemRow::Unchanged { source, since } => self.builder.append_row(
                &UNCHANGED,
                &meta,
                &[("source", Cell::Text(source)), ("since_time", Cell::Time(since))],
            ),
            SystemRow::Block { upload, index, bytes } => self.builder.append_row(
                &UPLOAD_BLOCKS,
                &meta,
                &[
                    ("upload", number(upload.0)),
                    ("block", number(u64::from(index))),
                    ("data", Cell::Bytes(bytes)),
                ],
            ),
        }
    }
}

const NO_TABLE: &str = "there is no table for these rows";

fn origin<'a>(step: &StateStep<'a>) -> Origin<'a> {
    Origin::Current { source: step.source, generation: step.generation, step: step.step }
}

fn number(n: u64) -> Cell<'static> {
    Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn meta(at: &RowAt) -> RowMeta {
    RowMeta {
        org: at.org,
        agent: at.agent,
        agent_kind: at.kind,
        hunt: at.task.map_or(HuntNo(0), |task| task.hunt),
        attempt: at.task.map_or(0, |task| task.attempt),
        late: at.late,
        received_at: at.received_at,
        endpoint_time: at.endpoint_time,
        shard: at.shard,
        pos: at.pos,
    }
}
