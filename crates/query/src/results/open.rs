//! Tasks that have not ended: `collections` shows them beside the rows of those that have.

use std::collections::HashMap;

use muster_catalog::args;
use muster_endpoints::AgentState;
use muster_hunts::ShardProgress;
use muster_types::{AgentNo, AgentSet, HuntNo, Outcome, Shard, Timestamp};
use roaring::RoaringBitmap;

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

    /// Raised whenever a task ends, in the transaction that publishes its row.
    PROGRESSED = "SELECT seq FROM feed WHERE topic = 'progress'";
}

/// Agents of one wave whose tasks wait or run: never empty.
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
        }
    }
}

/// A number that is the same as long as no task changes.
pub(super) async fn progressed(question: &Question) -> Result<i64, Error> {
    let row = question.catalog.fetch_optional(&PROGRESSED, args![]).await?;
    Ok(row.map(|row| row.get("seq")).transpose()?.unwrap_or_default())
}

/// The open tasks of the agents that the asker sees, by hunt and wave.
pub(super) async fn read(question: &Question) -> Result<Vec<OpenTasks>, Error> {
    let org = i64::from(question.access.org.0);
    let seen = question.reach().await?.agents.as_deref();
    let snapshot = question.directory().await?;
    // Waves first: whoever is recruited in between is in none of it yet.
    let waves = question.catalog.fetch_all(&OPEN_WAVES, args![org]).await?;
    let mut hunts: HashMap<HuntNo, Known> = HashMap::new();
    for row in question.catalog.fetch_all(&OPEN_PROGRESS, args![org]).await? {
        let bytes: Vec<u8> = row.get("progress")?;
        let progress = ShardProgress::decode(&bytes).map_err(|error| unreadable(&error))?;
        hunts.entry(row.get("hunt_no")?).or_default().add(row.get("shard")?, &progress);
    }
    let listed = |no: &u32| {
        let agent = snapshot.agent(AgentNo(*no));
        agent.is_some_and(|a| a.org == question.access.org && a.state != AgentState::Retired)
    };
    let mut tasks = Vec::new();
    for row in waves {
        let (hunt, since) = (row.get("hunt_no")?, row.get("committed_at")?);
        let bytes: Vec<u8> = row.get("agents")?;
        let recruited = AgentSet::from_bytes(&bytes).map_err(|error| unreadable(&error))?;
        let known = hunts.entry(hunt).or_default();
        let mut open = recruited.0 - &known.done;
        if let Some(seen) = seen {
            open &= seen;
        }
        let open: RoaringBitmap = open.iter().filter(listed).collect();
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
