//! What keeps presence and the catalog in step.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_bus::{Bus, Hint, Topic};
use muster_catalog::{Catalog, Error, Priority, args};
use muster_types::{AgentNo, InstanceId, SHARDS, Shard, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::block::{Block, MOVES_MAX, Moves};
use super::{FRESH, Inner, Slot, seconds};

const FLUSH_EVERY: Duration = Duration::from_secs(30);
const READ_EVERY: Duration = Duration::from_secs(15);
const FOLD_EVERY: Duration = Duration::from_secs(3_600);
/// Arrivals are collected this long before they are told.
const GATHER: Duration = Duration::from_millis(10);
/// Questions for who is there, and answers to them, are at least this far apart.
const ASKED_APART: Duration = Duration::from_secs(1);
/// Blocks of an instance that has been silent for so long are folded and dropped.
const DEAD_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Agents in one statement of the fold.
const FOLD_ROWS: usize = 5_000;

muster_catalog::statements! {
    PUT_BLOCK = "INSERT INTO presence_block (instance, shard, written_at, last_seen)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (instance, shard)
        DO UPDATE SET written_at = excluded.written_at, last_seen = excluded.last_seen";
    /// 64 rows an instance.
    small READ_BLOCKS = "SELECT instance, shard, written_at, last_seen
        FROM presence_block
        WHERE written_at >= $1";
    /// 64 rows an instance.
    small DEAD_BLOCKS = "SELECT instance, shard, written_at, last_seen
        FROM presence_block
        WHERE written_at < $1";
    DROP_BLOCK = "DELETE FROM presence_block
        WHERE instance = $1 AND shard = $2 AND written_at = $3";
    FOLD_SEEN = {
        sqlite: "UPDATE agent
            SET last_seen = CAST(seen.value ->> 1 AS INTEGER)
            FROM json_each($1) AS seen
            WHERE agent.no = CAST(seen.value ->> 0 AS INTEGER)
              AND agent.last_seen < CAST(seen.value ->> 1 AS INTEGER)",
        postgres: "UPDATE agent
            SET last_seen = (seen.value ->> 1)::BIGINT
            FROM jsonb_array_elements($1::JSONB) AS seen(value)
            WHERE agent.no = (seen.value ->> 0)::BIGINT
              AND agent.last_seen < (seen.value ->> 1)::BIGINT"
    };
}

/// What the service remembers between its steps.
#[derive(Default)]
struct Memory {
    /// Blocks as last written.
    written: HashMap<Shard, Block>,
    /// Database time of the newest block read.
    read_to: Timestamp,
    /// Who said good-bye elsewhere, and when, so that a block does not bring them back.
    left: HashMap<AgentNo, u32>,
}

/// Something that is done as soon as it is asked for, but not more often than [`ASKED_APART`].
struct Paced {
    due: Option<Instant>,
    earliest: Instant,
}

impl Paced {
    fn new() -> Self {
        Self { due: None, earliest: Instant::now() }
    }

    fn ask(&mut self) {
        let at = self.earliest.max(Instant::now());
        self.due.get_or_insert(at);
    }

    /// Waits until it is to be done; for ever when it was not asked for.
    ///
    /// # Cancel safety
    /// Safe: it stays asked for.
    async fn turn(&mut self) {
        let Some(due) = self.due else { return std::future::pending().await };
        sleep_until(due).await;
        self.due = None;
        self.earliest = Instant::now() + ASKED_APART;
    }
}

pub(super) async fn run(
    inner: &Inner,
    catalog: &Catalog,
    bus: &dyn Bus,
    shutdown: &CancellationToken,
) {
    let mut memory = Memory::default();
    let mut hints = bus.subscribe(&[Topic::Presence]);
    let (mut question, mut answer) = (Paced::new(), Paced::new());
    // Who came within the last half minute is in no block yet.
    question.ask();
    let (mut flush, mut read, mut fold) =
        (interval(FLUSH_EVERY), interval(READ_EVERY), interval(FOLD_EVERY));
    for ticks in [&mut flush, &mut read, &mut fold] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let done = tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.moved.notified() => {
                tokio::time::sleep(GATHER).await;
                tell_moves(inner, bus);
                Ok(())
            }
            hint = hints.next() => match hint {
                Some(Hint::Message(_, content)) => {
                    if hear_moves(inner, &mut memory, content) {
                        answer.ask();
                    }
                    Ok(())
                }
                Some(Hint::Gap) => {
                    question.ask();
                    refresh(inner, catalog, &mut memory).await
                }
                None => break,
            },
            () = question.turn() => {
                let nobody = Moves { instance: inner.me, arrived: Vec::new(), left: Vec::new() };
                bus.publish(Topic::Presence, nobody.encode());
                // Whom another had written just before it heard this it leaves out of its answer.
                read.reset_after(ASKED_APART * 2);
                Ok(())
            }
            () = answer.turn() => {
                tell(inner, bus, &unwritten(inner, &memory), &[]);
                Ok(())
            }
            _ = read.tick() => refresh(inner, catalog, &mut memory).await,
            _ = flush.tick() => write_blocks(inner, catalog, &mut memory).await,
            _ = fold.tick() => fold_all(inner, catalog).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "presence could not be kept in step; it will be tried again");
        }
    }
    if let Err(error) = write_blocks(inner, catalog, &mut memory).await {
        tracing::warn!(%error, "presence could not be written at the end");
    }
}

/// Publishes who came and left since the last time.
fn tell_moves(inner: &Inner, bus: &dyn Bus) {
    let moves: Vec<_> = inner.moves.lock().drain().collect();
    let who = |wanted: bool| -> Vec<_> {
        let these = moves.iter().filter(|(_, arrived)| *arrived == wanted);
        these.map(|(agent, _)| *agent).collect()
    };
    tell(inner, bus, &who(true), &who(false));
}

fn tell(inner: &Inner, bus: &dyn Bus, arrived: &[AgentNo], left: &[AgentNo]) {
    let publish = |arrived: &[AgentNo], left: &[AgentNo]| {
        let moves = Moves { instance: inner.me, arrived: arrived.into(), left: left.into() };
        bus.publish(Topic::Presence, moves.encode());
    };
    arrived.chunks(MOVES_MAX).for_each(|arrived| publish(arrived, &[]));
    left.chunks(MOVES_MAX).for_each(|left| publish(&[], left));
}

/// Who is here, or polled lately, and is not in the blocks that others can read, or too long ago for them.
fn unwritten(inner: &Inner, memory: &Memory) -> Vec<AgentNo> {
    let now = seconds(inner.clock.now());
    let is_late = |seen: u32| now.saturating_sub(seen) > FRESH.as_secs() as u32 / 2;
    let is_told = |agent: AgentNo, slot: &Slot| {
        let here = slot.here.load(Ordering::Relaxed);
        let polled = !is_late(here) && !slot.left.load(Ordering::Relaxed);
        if !slot.is_linked() && !polled {
            return false;
        }
        let written = memory.written.get(&agent.shard()).map_or(0, |block| block.seen(agent));
        is_late(written)
    };
    let slots = inner.slots.iter().map(|(no, slot)| (AgentNo(no), slot));
    slots.filter(|(agent, slot)| is_told(*agent, slot)).map(|(agent, _)| agent).collect()
}

/// Takes in who came and left elsewhere. Whether it is a question instead: nobody is in it, and an
/// instance that has just begun to listen asks who came lately.
fn hear_moves(inner: &Inner, memory: &mut Memory, content: bytes::Bytes) -> bool {
    let Some(moves) = Moves::decode(content) else { return false };
    if moves.instance == inner.me {
        return false;
    }
    if moves.arrived.is_empty() && moves.left.is_empty() {
        return true;
    }
    let now = seconds(inner.clock.now());
    let fresh = FRESH.as_secs() as u32;
    memory.left.retain(|_, at| now.saturating_sub(*at) <= fresh);
    let mut arrived = false;
    for agent in &moves.arrived {
        memory.left.remove(agent);
        if let Some(slot) = inner.slots.slot(agent.0) {
            arrived |= !slot.is_online(now);
            slot.elsewhere.store(now, Ordering::Relaxed);
            slot.by_others.store(true, Ordering::Relaxed);
        }
    }
    for agent in moves.left {
        if let Some(slot) = inner.slots.get(agent.0) {
            slot.elsewhere.store(now.saturating_sub(fresh + 1), Ordering::Relaxed);
            memory.left.insert(agent, now);
            if slot.is_linked() {
                // It came here before its old link was known to be dead; others have just heard that it left.
                inner.moves.lock().insert(agent, true);
                inner.moved.notify_one();
            }
        }
    }
    if arrived {
        inner.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }
    false
}

async fn refresh(inner: &Inner, catalog: &Catalog, memory: &mut Memory) -> Result<(), Error> {
    // Writers take the time before they commit: read a little of what may have been missed again.
    let from = memory.read_to.minus(Duration::from_secs(10));
    let rows = catalog.fetch_all(&READ_BLOCKS, args![from]).await?;
    let mut arrived = false;
    let now = seconds(inner.clock.now());
    for mut row in rows {
        let written_at: Timestamp = row.get("written_at")?;
        memory.read_to = memory.read_to.max(written_at);
        if row.get::<InstanceId>("instance")? == inner.me {
            continue;
        }
        let shard: Shard = row.get("shard")?;
        for (agent, seen) in Block::from_bytes(row.take("last_seen")?).iter(shard) {
            if memory.left.get(&agent).is_some_and(|left| seen <= *left) {
                continue;
            }
            let Some(slot) = inner.slots.slot(agent.0) else { continue };
            let before = slot.is_online(now);
            slot.elsewhere.fetch_max(seen, Ordering::Relaxed);
            slot.by_others.store(true, Ordering::Relaxed);
            arrived |= !before && slot.is_online(now);
        }
    }
    if arrived {
        inner.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }
    Ok(())
}

/// At the start: what all instances, this one's former life too, knew.
pub(super) async fn load(inner: &Inner, catalog: &Catalog) -> Result<(), Error> {
    for mut row in catalog.fetch_all(&READ_BLOCKS, args![0]).await? {
        let shard: Shard = row.get("shard")?;
        for (agent, seen) in Block::from_bytes(row.take("last_seen")?).iter(shard) {
            if let Some(slot) = inner.slots.slot(agent.0) {
                slot.elsewhere.fetch_max(seen, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Writes the blocks of this instance that have changed.
async fn write_blocks(inner: &Inner, catalog: &Catalog, memory: &mut Memory) -> Result<(), Error> {
    let mut changed = current_blocks(inner);
    changed.retain(|shard, block| memory.written.get(shard) != Some(block));
    if changed.is_empty() {
        return Ok(());
    }
    let mut tx = catalog.begin(Priority::Presence).await?;
    let now = tx.now().await?;
    let mut shards: Vec<_> = changed.keys().copied().collect();
    shards.sort_unstable();
    for shard in shards {
        let bytes = changed[&shard].as_bytes();
        tx.execute(&PUT_BLOCK, args![inner.me, shard, now, bytes]).await?;
    }
    tx.commit().await?;
    memory.written.extend(changed);
    Ok(())
}

fn current_blocks(inner: &Inner) -> HashMap<Shard, Block> {
    let now = seconds(inner.clock.now());
    let mut blocks = HashMap::with_capacity(usize::from(SHARDS));
    for (no, slot) in inner.slots.iter() {
        if slot.links.load(Ordering::Acquire) > 0 {
            slot.here.store(now, Ordering::Relaxed);
        }
        let seen = slot.here.load(Ordering::Relaxed);
        if seen > 0 {
            let agent = AgentNo(no);
            blocks.entry(agent.shard()).or_insert_with(Block::default).set(agent, seen);
        }
    }
    blocks
}

/// Folds what is known into `agent.last_seen`, and drops blocks of instances that are long gone.
async fn fold_all(inner: &Inner, catalog: &Catalog) -> Result<(), Error> {
    let seen = current_blocks(inner)
        .into_iter()
        .flat_map(|(shard, block)| block.iter(shard).collect::<Vec<_>>());
    fold(catalog, &seen.collect::<Vec<_>>()).await?;
    let before = catalog.now().await?.minus(DEAD_AFTER);
    for mut row in catalog.fetch_all(&DEAD_BLOCKS, args![before]).await? {
        let (instance, shard) = (row.get::<InstanceId>("instance")?, row.get::<Shard>("shard")?);
        let written_at: Timestamp = row.get("written_at")?;
        let block = Block::from_bytes(row.take("last_seen")?);
        fold(catalog, &block.iter(shard).collect::<Vec<_>>()).await?;
        let args = args![instance, shard, written_at];
        catalog.execute(Priority::Presence, &DROP_BLOCK, args).await?;
    }
    Ok(())
}

/// Raises `agent.last_seen`; idempotent, so any instance may do it at any time.
pub(super) async fn fold(catalog: &Catalog, seen: &[(AgentNo, u32)]) -> Result<(), Error> {
    for part in seen.chunks(FOLD_ROWS) {
        let pairs: Vec<[i64; 2]> = part
            .iter()
            .map(|(agent, seconds)| [i64::from(agent.0), i64::from(*seconds) * 1_000_000])
            .collect();
        let json = serde_json::to_string(&pairs).expect("numbers become JSON");
        catalog.execute(Priority::Presence, &FOLD_SEEN, args![json]).await?;
    }
    Ok(())
}
