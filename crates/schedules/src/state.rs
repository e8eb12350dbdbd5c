//! What is kept in memory: everything as of one reading of the catalog.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_artifact::{Artifact, find_builtin, parse, render_sql, table_name};
use muster_catalog::{Catalog, Error, args};
use muster_results::{RowClass, TableSpec};
use muster_types::{AgentKind, OrgId};

use crate::rows::{self, ALL_FRAGMENTS, ALL_SCHEDULES, ARTIFACTS, Cursor};
use crate::yara::{self, ALL_YARA};
use crate::{Fragment, Mode, Platforms, Schedule};

/// How long rows of a deleted schedule are still taken: agents that were away bring them late.
const DELETED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A schedule that is in documents.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) schedule: Schedule,
    /// What the agent runs, parameters filled in.
    pub(crate) sql: String,
    /// Positions in [`Org::labels`].
    pub(crate) labels_in: Vec<usize>,
    pub(crate) labels_out: Vec<usize>,
}

/// One organisation.
#[derive(Debug, Default)]
pub(crate) struct Org {
    /// Enabled ones, by number.
    pub(crate) schedules: Vec<Entry>,
    /// With the position of their label.
    pub(crate) fragments: Vec<(Fragment, Option<usize>)>,
    /// The labels that make a difference.
    pub(crate) labels: Vec<String>,
    /// By reported name, deleted ones too.
    pub(crate) tables: HashMap<String, Table>,
    /// Files of YARA rules, by name.
    pub(crate) yara: HashMap<String, Bytes>,
}

/// Where rows of a name go.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) spec: Arc<TableSpec>,
    /// Whether rows are things that happened: no present state follows from them.
    pub(crate) events: bool,
}

impl Org {
    fn label(&mut self, name: &str) -> usize {
        let known = self.labels.iter().position(|label| label == name);
        known.unwrap_or_else(|| {
            self.labels.push(name.to_owned());
            self.labels.len() - 1
        })
    }

    fn add(&mut self, mut schedule: Schedule, artifact: Option<&Artifact>) {
        let columns = artifact.map(Artifact::column_decls).unwrap_or_default();
        let spec = TableSpec {
            name: table_name(&schedule.artifact),
            class: RowClass::Scheduled,
            open: columns.is_empty(),
            columns,
        };
        let sql = artifact.and_then(|artifact| sql(&schedule, artifact));
        let events = match schedule.mode {
            Mode::Snapshot => false,
            Mode::AddedOnly => true,
            Mode::Differential => sql.as_deref().is_some_and(reads_events),
        };
        let table = Table { spec: Arc::new(spec), events };
        if schedule.deleted_at.is_some() {
            // One that was made anew under the same name goes first.
            self.tables.entry(schedule.name).or_insert(table);
            return;
        }
        self.tables.insert(schedule.name.clone(), table);
        if !schedule.enabled {
            return;
        }
        let Some(sql) = sql else {
            let (name, artifact) = (&schedule.name, &schedule.artifact);
            tracing::warn!(%name, %artifact, "a schedule's artifact cannot be run; it is left out");
            return;
        };
        let platforms = artifact.map(written_for).unwrap_or_default();
        schedule.platforms = schedule.platforms.both(platforms);
        let mut positions =
            |names: &[String]| names.iter().map(|name| self.label(name)).collect::<Vec<_>>();
        let (labels_in, labels_out) =
            (positions(&schedule.labels_in), positions(&schedule.labels_out));
        self.schedules.push(Entry { schedule, sql, labels_in, labels_out });
    }
}

/// The systems an artifact is written for.
fn written_for(artifact: &Artifact) -> Platforms {
    let words: Vec<&str> = artifact.platforms.iter().map(|platform| platform.as_str()).collect();
    words.join(",").parse().unwrap_or_default()
}

/// Whether the SQL reads one of osquery's event tables, whose differences are events: their names end in
/// `_events`.
fn reads_events(sql: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    sql.split(|c| !is_part(c)).any(|word| word.to_ascii_lowercase().ends_with("_events"))
}

/// The SQL of a schedule, with its values in place.
fn sql(schedule: &Schedule, artifact: &Artifact) -> Option<String> {
    let source = artifact.sources.get(&AgentKind::Osquery)?;
    let bound = artifact.bind(&schedule.parameters).ok()?;
    Some(render_sql(source.query.trim(), &bound).into_owned())
}

/// Everything, as of one reading.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) cursor: Cursor,
    pub(crate) orgs: HashMap<OrgId, Org>,
}

impl State {
    /// Reads everything anew when the feeds say that something changed since `known`.
    pub(crate) async fn changed(catalog: &Catalog, known: Cursor) -> Result<Option<Self>, Error> {
        let cursor = rows::newest(catalog).await?;
        if cursor == known {
            return Ok(None);
        }
        let deleted_after = catalog.now().await?.minus(DELETED_FOR);
        let (schedules, fragments, artifacts, yara) = tokio::try_join!(
            catalog.fetch_all(&ALL_SCHEDULES, args![deleted_after]),
            catalog.fetch_all(&ALL_FRAGMENTS, args![]),
            catalog.fetch_all(&ARTIFACTS, args![deleted_after]),
            catalog.fetch_all(&ALL_YARA, args![]),
        )?;
        let mut written = HashMap::new();
        for row in artifacts {
            let (org, name): (OrgId, String) = (row.get("org")?, row.get("name")?);
            match parse(&row.get::<String>("yaml")?) {
                Ok(artifact) => drop(written.insert((org, name), artifact)),
                Err(error) => tracing::warn!(%name, %error, "an artifact cannot be read"),
            }
        }
        let mut orgs: HashMap<OrgId, Org> = HashMap::new();
        let mut schedules =
            schedules.iter().map(rows::read_schedule).collect::<Result<Vec<_>, _>>()?;
        // Live ones first, so that a name belongs to them; of deleted ones to the newest.
        schedules.sort_by_key(|one| (one.deleted_at.is_some(), std::cmp::Reverse(one.deleted_at)));
        for schedule in schedules {
            let artifact = written
                .get(&(schedule.org, schedule.artifact.clone()))
                .or_else(|| find_builtin(&schedule.artifact));
            orgs.entry(schedule.org).or_default().add(schedule, artifact);
        }
        for row in &fragments {
            let fragment = rows::read_fragment(row)?;
            let org = orgs.entry(fragment.org).or_default();
            let label = (!fragment.label.is_empty()).then(|| org.label(&fragment.label));
            org.fragments.push((fragment, label));
        }
        for row in &yara {
            let (org, name, text) = yara::served(row)?;
            orgs.entry(org).or_default().yara.insert(name, text);
        }
        orgs.values_mut().for_each(|org| org.schedules.sort_by_key(|entry| entry.schedule.no));
        Ok(Some(Self { cursor, orgs }))
    }
}
