//! Tasks that have no row of their own: `collections` shows them beside the rows of those that have. They
//! wait or run, or their hunt ended before they were handed out, and so their end is in no record.
//!
//! Those of live hunts are read with the parts. Of hunts that have ended there may be many, and few have such
//! tasks: each is read when a scan gets to it, one after the other, and only those that its filters leave.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use muster_catalog::args;
use muster_endpoints::AgentState;
use muster_hunts::{HuntDef, ShardProgress, Stored};
use muster_types::{AgentNo, AgentSet, HuntNo, Outcome, Shard, Timestamp};
use roaring::RoaringBitmap;
use tokio::sync::Mutex;

use super::prune::Span;
use crate::Error;
use crate::question::Question;

muster_catalog::statements! {
    /// Whom the hunts that live have recruited.
    OPEN_WAVES = "
        SELECT w.hunt_no, w.agents, w.committed_at
        FROM hunt h
        JOIN hunt_wave w ON w.hunt_no = h.no
        WHERE h.org = $1 AND h.state IN ('running', 'paused') AND h.deleted_at IS NULL
        ORDER BY w.hunt_no, w.wave";

    /// What became of them.
    OPEN_PROGRESS = "
        SELECT s.hunt_no, s.shard, s.progress
        FROM hunt h
        JOIN hunt_shard s ON s.hunt_no = h.no
        WHERE h.org = $1 AND h.state IN ('running', 'paused') AND h.deleted_at IS NULL";

    /// Hunts that have ended and may have tasks without an end. One that is finished has none.
    ENDED_HUNTS = "
        SELECT no, created_at, ended_at, recruited_total
        FROM hunt
        WHERE org = $1 AND state IN ('stopped', 'expired') AND recruited_total > 0 AND deleted_at IS NULL";

    /// Raised whenever a task ends, in the transaction that publishes its row.
    PROGRESSED = "SELECT seq FROM feed WHERE topic = 'progress'";
}

/// What tasks without an end of their own may be once their hunt has ended.
const AFTER_THE_END: [Outcome; 4] =
    [Outcome::Running, Outcome::TimedOut, Outcome::Cancelled, Outcome::Expired];
/// And what as long as some of them may have been handed out.
const UNSETTLED: [Outcome; 5] =
    [Outcome::Waiting, Outcome::Running, Outcome::TimedOut, Outcome::Cancelled, Outcome::Expired];

/// Agents of one wave whose tasks have this outcome and no row: never empty.
#[derive(Debug)]
pub(crate) struct OpenTasks {
    pub hunt: HuntNo,
    /// When they were recruited.
    pub since: Timestamp,
    pub outcome: Outcome,
    pub agents: RoaringBitmap,
}

impl OpenTasks {
    /// What pruning needs to know.
    pub(crate) fn span(&self) -> Span {
        let agent = |no: Option<u32>| AgentNo(no.unwrap_or_default());
        Span {
            agent: (agent(self.agents.min()), agent(self.agents.max())),
            hunt: (self.hunt, self.hunt),
            received: (self.since, self.since),
            rows: self.agents.len(),
            outcomes: Outcome::ALL.get(self.outcome as usize..=self.outcome as usize),
        }
    }
}

/// A number that is the same as long as no task changes.
pub(super) async fn progressed(question: &Question) -> Result<i64, Error> {
    let row = question.catalog.fetch_optional(&PROGRESSED, args![]).await?;
    Ok(row.map(|row| row.get("seq")).transpose()?.unwrap_or_default())
}

/// Which of these agents the asker sees.
async fn seen(question: &Question, mut agents: RoaringBitmap) -> Result<RoaringBitmap, Error> {
    if let Some(seen) = question.reach().await?.agents.as_deref() {
        agents &= seen;
    }
    let snapshot = question.directory().await?;
    let listed = |no: &u32| {
        let agent = snapshot.agent(AgentNo(*no));
        agent.is_some_and(|a| a.org == question.access.org && a.state != AgentState::Retired)
    };
    Ok(agents.iter().filter(listed).collect())
}

/// Hunts that have ended, whose tasks without an end are read when they are asked for. Tasks that end
/// while the query runs are missing at worst.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    hunts: Vec<EndedHunt>,
    /// What was read, so that a query gets the same however often it names the table.
    known: Mutex<BTreeMap<HuntNo, Vec<Arc<OpenTasks>>>>,
}

#[derive(Clone, Copy, Debug)]
struct EndedHunt {
    no: HuntNo,
    created_at: Timestamp,
    recruited: u64,
    outcomes: &'static [Outcome],
}

impl Ended {
    /// All but those whose tasks are in `open`.
    pub(super) async fn list(question: &Question, open: &[OpenTasks]) -> Result<Self, Error> {
        let open: HashSet<HuntNo> = open.iter().map(|tasks| tasks.hunt).collect();
        let mut hunts = Vec::new();
        let org = i64::from(question.access.org.0);
        for row in question.catalog.fetch_all(&ENDED_HUNTS, args![org]).await? {
            let (no, created_at) = (row.get("no")?, row.get("created_at")?);
            if !open.contains(&no) {
                let recruited = row.get::<i64>("recruited_total")?.unsigned_abs();
                let ended_at: Option<Timestamp> = row.get("ended_at")?;
                let settled = ended_at.is_none_or(|at| at.plus(HuntDef::UNSETTLED) <= question.now);
                let outcomes = if settled { &AFTER_THE_END[..] } else { &UNSETTLED[..] };
                hunts.push(EndedHunt { no, created_at, recruited, outcomes });
            }
        }
        Ok(Self { hunts, known: Mutex::default() })
    }

    /// The tasks of the hunts that `keep` leaves; it gets the hunts' spans.
    pub(super) async fn tasks(
        &self,
        question: &Question,
        keep: impl Fn(Vec<Span>) -> Vec<Span>,
    ) -> Result<Vec<Arc<OpenTasks>>, Error> {
        let spans = self.hunts.iter().map(|hunt| Span {
            agent: (AgentNo(0), AgentNo(u32::MAX)),
            hunt: (hunt.no, hunt.no),
            received: (hunt.created_at, Timestamp(i64::MAX)),
            rows: hunt.recruited,
            outcomes: Some(hunt.outcomes),
        });
        let mut known = self.known.lock().await;
        let mut all = Vec::new();
        for span in keep(spans.collect()) {
            let no = span.hunt.0;
            let tasks = match known.entry(no) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(ended(question, no).await?),
            };
            all.extend(tasks.iter().cloned());
        }
        Ok(all)
    }
}

async fn ended(question: &Question, hunt: HuntNo) -> Result<Vec<Arc<OpenTasks>>, Error> {
    let Some(stored) = Stored::read(&question.catalog, hunt).await? else { return Ok(Vec::new()) };
    let mut tasks = Vec::new();
    for (since, outcome, agents) in stored.without_end(question.now) {
        let agents = seen(question, agents.0).await?;
        if !agents.is_empty() {
            tasks.push(Arc::new(OpenTasks { hunt, since, outcome, agents }));
        }
    }
    Ok(tasks)
}

/// The open tasks of live hunts, of the agents that the asker sees, by hunt and wave.
pub(super) async fn read(question: &Question) -> Result<Vec<OpenTasks>, Error> {
    let org = i64::from(question.access.org.0);
    // Waves first: whoever is recruited in between is in none of it yet.
    let waves = question.catalog.fetch_all(&OPEN_WAVES, args![org]).await?;
    let mut hunts: HashMap<HuntNo, Known> = HashMap::new();
    for row in question.catalog.fetch_all(&OPEN_PROGRESS, args![org]).await? {
        let bytes: Vec<u8> = row.get("progress")?;
        let progress = ShardProgress::decode(&bytes).map_err(|error| unreadable(&error))?;
        hunts.entry(row.get("hunt_no")?).or_default().add(row.get("shard")?, &progress);
    }
    let mut tasks = Vec::new();
    for row in waves {
        let (hunt, since) = (row.get("hunt_no")?, row.get("committed_at")?);
        let bytes: Vec<u8> = row.get("agents")?;
        let recruited = AgentSet::from_bytes(&bytes).map_err(|error| unreadable(&error))?;
        let known = hunts.entry(hunt).or_default();
        let open = seen(question, recruited.0 - &known.done).await?;
        // Nobody is shown twice, should two waves name one agent.
        known.done |= &open;
        let running = &open & &known.running;
        for (outcome, agents) in [(Outcome::Waiting, open - &running), (Outcome::Running, running)]
        {
            if !agents.is_empty() {
                tasks.push(OpenTasks { hunt, since, outcome, agents });
            }
        }
    }
    Ok(tasks)
}

/// What the fold knows of one hunt.
#[derive(Default)]
struct Known {
    running: RoaringBitmap,
    /// Ended, or listed already.
    done: RoaringBitmap,
}

impl Known {
    fn add(&mut self, shard: Shard, progress: &ShardProgress) {
        self.running |= progress.agents(shard, Outcome::Running).0;
        for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.is_terminal()) {
            self.done |= progress.agents(shard, outcome).0;
        }
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Error {
    muster_catalog::Error::Other(format!("a hunt's agents: {error}")).into()
}
