//! Who was asked when, as it is kept and passed on: a block per instance and shard, and hints between.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_catalog::{Error, Priority, args};
use muster_endpoints::Block;
use muster_types::{AgentNo, InstanceId, Shard, Timestamp};

use crate::inventory::Inner;

/// Agents in one hint; more make more hints.
const HINT_AGENTS_MAX: usize = 4_096;
const VERSION: u8 = 1;
/// Blocks that nobody has written for so long belong to an instance that is gone: every agent has had a turn
/// since.
const DEAD_MICROS: i64 = 24 * 3_600 * 1_000_000;

muster_catalog::statements! {
    PUT = "INSERT INTO inventory_block (instance, shard, written_at, handed)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (instance, shard)
        DO UPDATE SET written_at = excluded.written_at, handed = excluded.handed";
    /// 64 rows an instance.
    small READ = "SELECT instance, shard, written_at, handed
        FROM inventory_block
        WHERE written_at >= $1";
    /// 64 rows an instance.
    small DROP = "DELETE FROM inventory_block WHERE written_at < $1";
}

/// What is known of the blocks between two looks.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    written: HashMap<Shard, Block>,
    read_to: Timestamp,
}

impl Blocks {
    /// Takes in what the blocks say: at the start all of them, this instance's former life too, later
    /// those of the others.
    pub(crate) async fn read(&mut self, inner: &Inner) -> Result<(), Error> {
        let first = self.read_to == Timestamp::default();
        // Writers take the time before they commit: read a little of what may have been missed again.
        let from = self.read_to.minus(std::time::Duration::from_secs(10));
        for mut row in inner.deps.catalog.fetch_all(&READ, args![from]).await? {
            self.read_to = self.read_to.max(row.get("written_at")?);
            if !first && row.get::<InstanceId>("instance")? == inner.deps.instance {
                continue;
            }
            let shard: Shard = row.get("shard")?;
            for (agent, at) in Block::from_bytes(row.take("handed")?).iter(shard) {
                inner.rounds.handed_elsewhere(agent, at);
            }
        }
        Ok(())
    }

    /// Writes those of this instance that changed. What it knows of others is written too, so a block
    /// that was dropped with its instance is not missed.
    pub(crate) async fn write(&mut self, inner: &Inner) -> Result<(), Error> {
        let mut changed: HashMap<Shard, Block> = HashMap::new();
        for (no, slot) in inner.rounds.slots.iter() {
            let at = slot.handed();
            if at > 0 {
                let agent = AgentNo(no);
                changed.entry(agent.shard()).or_default().set(agent, at);
            }
        }
        changed.retain(|shard, block| self.written.get(shard) != Some(block));
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = inner.deps.catalog.begin(Priority::Presence).await?;
        let now = tx.now().await?;
        let mut shards: Vec<_> = changed.keys().copied().collect();
        shards.sort_unstable();
        for shard in shards {
            let bytes = changed[&shard].as_bytes();
            tx.execute(&PUT, args![inner.deps.instance, shard, now, bytes]).await?;
        }
        tx.execute(&DROP, args![now.0.saturating_sub(DEAD_MICROS)]).await?;
        tx.commit().await?;
        self.written.extend(changed);
        Ok(())
    }
}

/// Hints for these agents.
pub(crate) fn hints(handed: &[(AgentNo, u32)]) -> impl Iterator<Item = Bytes> {
    handed.chunks(HINT_AGENTS_MAX).map(|part| {
        let mut out = BytesMut::with_capacity(1 + 8 * part.len());
        out.put_u8(VERSION);
        for (agent, at) in part {
            out.put_u32_le(agent.0);
            out.put_u32_le(*at);
        }
        out.freeze()
    })
}

/// Takes in a hint of another instance, or our own. One of another version is ignored.
pub(crate) fn hear(inner: &Inner, mut content: Bytes) {
    if content.first() != Some(&VERSION) {
        return;
    }
    content.advance(1);
    while content.remaining() >= 8 {
        let (agent, at) = (AgentNo(content.get_u32_le()), content.get_u32_le());
        // Made when missing, so only for agents that exist.
        if inner.deps.directory.snapshot().agent(agent).is_some() {
            inner.rounds.handed_elsewhere(agent, at);
        }
    }
}

/// What was handed over here since the last time.
pub(crate) fn take_untold(inner: &Inner) -> Vec<(AgentNo, u32)> {
    std::mem::take(&mut *inner.untold.lock())
}

/// The newest change of a policy's question, for [`crate::rounds::Rounds::due`]. A time ahead of ours
/// would make everybody due until then.
pub(crate) fn note_policies(inner: &Inner) {
    let now = crate::inventory::seconds(inner.deps.clock.now());
    let newest = inner.policies.newest().map_or(0, crate::inventory::seconds);
    inner.rounds.policies_changed.fetch_max(newest.min(now), Ordering::Relaxed);
}
