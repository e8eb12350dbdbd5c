//! The worker without time and leases.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use muster_stream::Entry;
use muster_types::{AgentNo, AgentSet, Body, Epoch, HuntNo, Payload, Pos, Shard, Timestamp};

use super::batch::{self, Answers, Mentions, Pending};
use super::commit::Cut;
use super::ends::Silent;
use super::sink::Scheduled;
use super::store::{self, NewBase, ShardCut};
use super::{Deps, Error, Watched, blocking};
use crate::fold::{Counters, LiveRows, ShardState};

/// Bounds of a worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is folded is committed at the latest after this.
    pub flush_after: Duration,
    /// The same while somebody waits for an answer.
    pub flush_urgent_after: Duration,
    /// The same while shards have only just been taken: rows have waited for a holder long enough.
    pub flush_taken_after: Duration,
    /// What is folded is committed at once when its columns take this much memory.
    pub flush_bytes: usize,
    /// Nothing more is read while this much is folded and not committed.
    pub pending_bytes_max: usize,
    /// About how much is read at once.
    pub read_bytes: usize,
    /// A new base of a shard's state after this time.
    pub base_after: Duration,
    /// A new base when the deltas are longer than this.
    pub delta_bytes_max: usize,
    /// How long objects stay that nothing refers to any more.
    pub retire_grace: Duration,
    /// A task with more bytes of rows is cut off.
    pub task_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flush_after: Duration::from_secs(1),
            flush_urgent_after: Duration::from_millis(250),
            flush_taken_after: Duration::from_millis(100),
            flush_bytes: 64 << 20,
            pending_bytes_max: 96 << 20,
            read_bytes: 1 << 20,
            base_after: Duration::from_secs(300),
            delta_bytes_max: 4 << 20,
            retire_grace: Duration::from_secs(1800),
            task_bytes_max: 1 << 30,
        }
    }
}

/// A shard that is held.
#[derive(Debug)]
pub(super) struct Holding {
    epoch: Epoch,
    /// Up to here the last cut goes, committed or on its way.
    cut: Pos,
    delta_bytes: usize,
    base: Option<String>,
    base_at: Timestamp,
    /// Positions of ends that were appended, per hunt: no second sweep before they are folded.
    pub(super) ends: HashMap<HuntNo, Pos>,
}

/// What folding a batch brought besides state and rows.
#[derive(Debug, Default)]
pub struct Processed {
    /// For those who look on.
    pub live: Vec<LiveRows>,
    /// Somebody waits for this.
    pub urgent: bool,
}

/// Some shards, their states, and what is folded and not committed.
pub struct Core {
    pub(super) deps: Arc<Deps>,
    options: Options,
    pub(super) held: BTreeMap<Shard, Holding>,
    pub(super) states: BTreeMap<Shard, ShardState>,
    pub(super) positions: BTreeMap<Shard, Pos>,
    pending: Pending,
    pub(super) silent: Silent,
}

/// Hunts that are not in memory, looked up for one read of the stream. Answers to further ones are
/// refused; agents that are not hostile answer hunts that are in memory.
const LOOKED_UP_MAX: usize = 512;
/// The same of one agent, so that who names many leaves room for the late answers of others.
const LOOKED_UP_OF_AGENT: usize = 16;

/// States of shards that are loaded side by side: nobody folds them meanwhile.
const LOADED_AT_ONCE: usize = 8;

impl Core {
    /// Takes the shards over and loads their states. Shards with a later holder are left out.
    ///
    /// # Errors
    /// When they cannot be taken or a state cannot be read.
    pub async fn open(
        deps: Arc<Deps>,
        options: Options,
        shards: &BTreeMap<Shard, Epoch>,
    ) -> Result<Self, Error> {
        let mut core = Self {
            options,
            held: BTreeMap::new(),
            states: BTreeMap::new(),
            positions: BTreeMap::new(),
            pending: Pending::default(),
            silent: Silent::default(),
            deps,
        };
        core.adopt(shards).await?;
        Ok(core)
    }

    /// Takes further shards over, beside those it has: these go on, with what is folded of them and with
    /// a cut that is on its way. To be read from [`Core::positions`] then.
    ///
    /// # Errors
    /// As [`Core::open`]; the core is of no use then.
    pub async fn adopt(&mut self, shards: &BTreeMap<Shard, Epoch>) -> Result<(), Error> {
        let now = self.deps.clock.now();
        self.deps.step("take")?;
        // Owned: a borrowing iterator across the await would keep this future from being sent.
        let wanted: Vec<_> = shards.iter().map(|(shard, epoch)| (*shard, *epoch)).collect();
        let taken = store::take(&self.deps.catalog, wanted).await?;
        self.deps.step("load")?;
        let mut loaded = Vec::with_capacity(taken.len());
        for some in taken.chunks(LOADED_AT_ONCE) {
            let (catalog, archive) = (&self.deps.catalog, &self.deps.archive);
            let each: Vec<_> =
                some.iter().map(|taken| store::load(catalog, archive, taken)).collect();
            loaded.extend(try_join_all(each).await?);
        }
        for (taken, (state, delta_bytes)) in taken.into_iter().zip(loaded) {
            let shard = taken.shard;
            debug_assert!(!self.held.contains_key(&shard), "what is held goes on as it is");
            // Spread over time, so that not all shards write their base in one commit.
            let age = self.options.base_after.mul_f64(f64::from(shard.get()) / 64.0);
            let holding = Holding {
                epoch: shards[&shard],
                cut: taken.pos,
                delta_bytes,
                base: taken.base.map(|(object, _)| object),
                base_at: now.minus(age),
                ends: HashMap::new(),
            };
            self.held.insert(shard, holding);
            self.states.insert(shard, state);
            self.positions.insert(shard, taken.pos);
        }
        Ok(())
    }

    /// Where to read on, per shard.
    #[must_use]
    pub fn positions(&self) -> Vec<(Shard, Pos)> {
        self.positions.iter().map(|(shard, pos)| (*shard, *pos)).collect()
    }

    /// Gives a shard up that cannot be read. What is folded of it stays pending.
    pub fn skip(&mut self, shard: Shard) {
        self.positions.remove(&shard);
    }

    /// Memory of what is folded and not cut.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.builder.bytes()
    }

    /// Whether anything is folded and not cut.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.pending.upto.is_empty()
    }

    /// What the fold met since the shards were taken.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let each = self.states.values().map(|state| state.counters);
        each.fold(Counters::default(), Counters::plus)
    }

    /// Folds a batch.
    ///
    /// # Errors
    /// When hunts or payloads cannot be read. The core is of no use then.
    pub async fn process(
        &mut self,
        entries: Vec<Entry>,
        watched: &Watched,
    ) -> Result<Processed, Error> {
        self.deps.step("read")?;
        let payloads = self.payloads(&entries).await?;
        let decoders = self.deps.decoders.clone();
        let (decoded, mentions) =
            blocking(move || batch::decode(entries, payloads, &decoders)).await?;
        self.deps.step("decoded")?;
        let answers = self.ask(mentions, watched).await?;
        self.deps.step("asked")?;
        let mut states = std::mem::take(&mut self.states);
        let mut positions = std::mem::take(&mut self.positions);
        let mut pending = std::mem::take(&mut self.pending);
        let folded;
        (self.states, self.positions, self.pending, folded) = blocking(move || {
            let folded = batch::fold(&mut states, &mut positions, &mut pending, decoded, &answers);
            (states, positions, pending, folded)
        })
        .await?;
        self.deps.step("folded")?;
        Ok(Processed { live: folded.live, urgent: folded.urgent })
    }

    /// Takes everything that is folded, to be committed; `None` when there is nothing.
    ///
    /// The cut before must be committed before this one is: their positions follow each other.
    ///
    /// # Errors
    /// When the work panics. The core is of no use then.
    pub async fn cut(&mut self) -> Result<Option<Cut>, Error> {
        if !self.is_pending() {
            return Ok(None);
        }
        let at = self.deps.clock.now();
        let pending = std::mem::take(&mut self.pending);
        let mut states = std::mem::take(&mut self.states);
        let mut wanted = Vec::new();
        for (shard, to) in &pending.upto {
            let holding = self.held.get_mut(shard).expect("only held shards are folded");
            let from = std::mem::replace(&mut holding.cut, *to);
            let long = holding.delta_bytes > self.options.delta_bytes_max;
            let base = long || at.since(holding.base_at) >= self.options.base_after;
            wanted.push((*shard, holding.epoch, from, *to, base.then(|| holding.base.clone())));
        }
        let version = self.deps.formats.version(&ShardState::FORMAT);
        let (states, shards, progress, uploads) = blocking(move || {
            let mut progress = Vec::new();
            let mut uploads = Vec::new();
            let mut shards = Vec::new();
            for (shard, epoch, from, to, base) in wanted {
                let state = states.get_mut(&shard).expect("only held shards are folded");
                let changed = state.take_changed_progress().into_iter();
                progress.extend(changed.map(|(hunt, progress)| (hunt, shard, progress)));
                uploads.extend(state.take_uploads_done());
                let delta = state.take_delta(version);
                let base = base.map(|old| NewBase {
                    object: base_name(at, shard),
                    bytes: state.encode_base(version),
                    old,
                });
                shards.push(ShardCut { shard, epoch, from, to, delta, base });
            }
            (states, shards, progress, uploads)
        })
        .await?;
        self.states = states;
        for cut in &shards {
            let holding = self.held.get_mut(&cut.shard).expect("only held shards are folded");
            match &cut.base {
                None => holding.delta_bytes += cut.delta.len(),
                Some(base) => {
                    holding.delta_bytes = 0;
                    holding.base = Some(base.object.clone());
                    holding.base_at = at;
                }
            }
        }
        Ok(Some(Cut {
            at,
            not_before: at.plus(self.options.retire_grace),
            builder: pending.builder,
            objects: pending.objects,
            entries: pending.entries,
            shards,
            progress,
            uploads,
        }))
    }

    /// To be called when a cut was committed and no other is on its way.
    pub fn committed(&mut self) {
        for state in self.states.values_mut() {
            if state.progress_count() > 256 {
                state.forget_progress(|_| false);
            }
        }
    }

    /// Reads the payloads that are objects. One that is gone makes its record poison.
    async fn payloads(
        &self,
        entries: &[Entry],
    ) -> Result<HashMap<usize, Result<Bytes, String>>, Error> {
        let mut payloads = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let Body::Wire(Payload::Object { name, .. }) = &entry.record.body else { continue };
            // One that was folded before may be gone already, and is not folded again.
            let folded = self.positions.get(&entry.record.shard());
            if folded.is_none_or(|at| entry.pos <= *at) {
                continue;
            }
            let payload = match self.deps.archive.get(name).await {
                Ok(bytes) => Ok(bytes),
                Err(error) if error.is_retryable() => return Err(error.into()),
                Err(error) => Err(error.to_string()),
            };
            payloads.insert(index, payload);
        }
        Ok(payloads)
    }

    /// Finds out everything the fold will ask.
    async fn ask(&mut self, mentions: Mentions, watched: &Watched) -> Result<Answers, Error> {
        let mut answers = Answers::default();
        let source = self.deps.hunts.clone();
        let (mut looks, mut refreshed) = (Looks::default(), false);
        for (hunt, mut unknown) in mentions.tasks {
            if !source.is_known(hunt) && !looks.admit(&unknown) {
                // Those that were only just made are learned all at once.
                if !std::mem::replace(&mut refreshed, true) {
                    source.refresh().await?;
                }
                if !source.is_known(hunt) {
                    continue;
                }
            }
            let Some(mut info) = source.hunt(hunt).await? else { continue };
            info.view.watched = watched.contains(hunt);
            info.view.bytes_per_endpoint = self.options.task_bytes_max;
            answers.hunts.insert(hunt, info);
            self.load_progress(hunt).await?;
            let mut recruited = source.recruited(hunt, &unknown);
            unknown.0 -= &recruited.0;
            if !unknown.is_empty() {
                // A frontend may know a wave before we do: nobody is refused before we have looked.
                if !std::mem::replace(&mut refreshed, true) {
                    source.refresh().await?;
                }
                recruited.0 |= source.recruited(hunt, &unknown).0;
            }
            answers.recruited.insert(hunt, recruited);
        }
        for key in mentions.schedules {
            if let Some(table) = source.scheduled(key.0, key.1, &key.2) {
                let keeps = source.keeps(key.0, key.1, &key.2);
                answers.schedules.insert(key, Scheduled::new(table, keeps));
            }
        }
        Ok(answers)
    }

    pub(super) async fn load_progress(&mut self, hunt: HuntNo) -> Result<(), Error> {
        if self.states.values().all(|state| state.has_progress(hunt)) {
            return Ok(());
        }
        for (shard, progress) in store::progress(&self.deps.catalog, hunt).await? {
            if let Some(state) = self.states.get_mut(&shard) {
                state.put_progress(hunt, progress);
            }
        }
        for state in self.states.values_mut() {
            state.put_progress(hunt, crate::fold::ShardProgress::default());
        }
        Ok(())
    }
}

/// Looks into the catalog for one read of the stream: agents may name hunts nobody made, and each costs
/// one.
#[derive(Debug, Default)]
struct Looks {
    count: usize,
    of_agents: HashMap<AgentNo, usize>,
}

impl Looks {
    /// Whether a hunt that these agents name is looked up: when looks grow scarce, not if every one of them
    /// has named too many before.
    fn admit(&mut self, agents: &AgentSet) -> bool {
        let may = |agent| self.of_agents.get(&agent).is_none_or(|had| *had < LOOKED_UP_OF_AGENT);
        let scarce = self.count >= LOOKED_UP_MAX / 2;
        if self.count >= LOOKED_UP_MAX || (scarce && !agents.iter().any(may)) {
            return false;
        }
        self.count += 1;
        for agent in agents.iter() {
            *self.of_agents.entry(agent).or_default() += 1;
        }
        true
    }
}

fn base_name(at: Timestamp, shard: Shard) -> String {
    let day = muster_archive::day_name(at.day());
    format!("state/v1/{day}/{shard}-{}", uuid::Uuid::now_v7())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_many_hunts_leaves_looks_for_others() {
        let set = |agents: &[u32]| agents.iter().copied().map(AgentNo).collect::<AgentSet>();
        let mut looks = Looks::default();
        let greedy = (0..600).filter(|_| looks.admit(&set(&[1]))).count();
        assert_eq!(greedy, LOOKED_UP_MAX / 2, "as long as there are many left");
        assert!(looks.admit(&set(&[2])), "another's late answer");
        assert!(looks.admit(&set(&[1, 3])), "one that both name");
        let all = (4..1_000).filter(|agent| looks.admit(&set(&[*agent]))).count();
        assert_eq!(all, LOOKED_UP_MAX / 2 - 2);
    }
}
