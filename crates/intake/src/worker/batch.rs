//! A batch of entries on its way through the fold: decode, ask, fold.
//!
//! Decoding and folding are work of milliseconds and run where they block nobody; only the asking in between waits.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use muster_results::SegmentBuilder;
use muster_stream::Entry;
use muster_types::{
    AgentKind, AgentNo, AgentSet, Body, Fact, Facts, HuntNo, OrgId, Payload, Poison, Pos, Shard,
    TaskId,
};

use super::Decoders;
use super::sink::{Schedules, SegmentSink};
use super::source::HuntInfo;
use crate::fold::{Effects, HuntLookup, HuntView, Keeps, LiveRows, ShardState, apply};

/// An entry with what its decoder made of it.
pub(super) type Decoded = (Entry, Option<Result<Facts, Poison>>);

/// Which tasks and schedules a batch speaks of.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Hunts, and the agents whose tasks of them they are.
    pub tasks: BTreeMap<HuntNo, AgentSet>,
    pub schedules: HashSet<(OrgId, AgentKind, String)>,
}

/// Decodes; `payloads` holds what the objects of the entries hold, by index.
pub(super) fn decode(
    entries: Vec<Entry>,
    mut payloads: HashMap<usize, Result<Bytes, String>>,
    decoders: &Decoders,
) -> (Vec<Decoded>, Mentions) {
    let mut mentions = Mentions::default();
    let mut decoded = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let record = &entry.record;
        let payload = match &record.body {
            Body::Fact(fact) => {
                mentions.task(fact.task(), record.agent);
                decoded.push((entry, None));
                continue;
            }
            Body::Wire(Payload::Inline(bytes)) => Ok(bytes.clone()),
            Body::Wire(Payload::Object { .. }) => {
                payloads.remove(&index).unwrap_or_else(|| Err("its object was not read".into()))
            }
        };
        let facts = decoders.get(&record.kind).map(|decoder| match payload {
            Ok(payload) => decoder.decode(record, payload),
            Err(reason) => Err(Poison { reason }),
        });
        if let Some(Ok(facts)) = &facts {
            mentions.facts(facts, &entry);
        }
        decoded.push((entry, facts));
    }
    (decoded, mentions)
}

impl Mentions {
    fn task(&mut self, task: TaskId, agent: AgentNo) {
        self.tasks.entry(task.hunt).or_default().insert(agent);
    }

    fn facts(&mut self, facts: &Facts, entry: &Entry) {
        let (agent, org, kind) = (entry.record.agent, entry.record.org, entry.record.kind);
        for item in &facts.items {
            match item {
                Fact::Rows(rows) => match rows.task {
                    Some(task) => self.task(task, agent),
                    None => _ = self.schedules.insert((org, kind, rows.source.clone())),
                },
                Fact::Started(task) => self.task(*task, agent),
                Fact::End(end) => self.task(end.task, agent),
                Fact::Log { .. } | Fact::Block(_) | Fact::Dropped { .. } => {}
            }
        }
    }
}

/// The answers: all the fold may know of the world.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub hunts: BTreeMap<HuntNo, HuntInfo>,
    pub recruited: BTreeMap<HuntNo, AgentSet>,
    pub schedules: Schedules,
}

impl HuntLookup for Answers {
    fn hunt(&self, hunt: HuntNo) -> Option<HuntView> {
        self.hunts.get(&hunt).map(|info| info.view)
    }

    fn is_recruited(&self, hunt: HuntNo, agent: AgentNo) -> bool {
        self.recruited.get(&hunt).is_some_and(|agents| agents.contains(agent))
    }

    fn scheduled(&self, org: OrgId, kind: AgentKind, source: &str) -> Option<Keeps> {
        self.schedules.get(&(org, kind, source.to_owned())).map(|scheduled| scheduled.keeps)
    }
}

/// What is folded and not committed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub builder: SegmentBuilder,
    pub upto: BTreeMap<Shard, Pos>,
    /// Payload objects of folded entries: of no use once this is committed.
    pub objects: Vec<String>,
    pub entries: u64,
}

/// What folding a batch brought besides.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub live: Vec<LiveRows>,
    pub urgent: bool,
}

/// Folds a decoded batch. Entries at or below their shard's position, and of shards that are not held, are left out.
pub(super) fn fold(
    states: &mut BTreeMap<Shard, ShardState>,
    positions: &mut BTreeMap<Shard, Pos>,
    pending: &mut Pending,
    decoded: Vec<Decoded>,
    answers: &Answers,
) -> Folded {
    let mut folded = Folded::default();
    let Pending { builder, upto, objects, entries } = pending;
    let mut sink =
        SegmentSink { builder, hunts: &answers.hunts, schedules: &answers.schedules, last: None };
    for (entry, facts) in decoded {
        let shard = entry.record.shard();
        let (Some(state), Some(at)) = (states.get_mut(&shard), positions.get_mut(&shard)) else {
            continue;
        };
        if entry.pos <= *at {
            continue;
        }
        let Effects { live, urgent, .. } = apply(state, answers, &entry, facts, &mut sink);
        *at = entry.pos;
        upto.insert(shard, entry.pos);
        *entries += 1;
        folded.live.extend(live);
        folded.urgent |= urgent;
        if let Body::Wire(Payload::Object { name, .. }) = entry.record.body {
            objects.push(name);
        }
    }
    folded
}
