//! `/shards`: who folds what, and how far behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use muster_catalog::{args, statements};
use muster_stream::{ReadError, Stream};
use muster_types::{InstanceId, Pos, Shard, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use crate::page::Page;
use crate::problem::{Problem, Result};
use crate::state::ApiState;

statements! {
    small SHARDS = "
        SELECT partition_lease.n, partition_lease.holder, partition_lease.epoch, shard_offset.pos
        FROM partition_lease
        LEFT JOIN shard_offset ON shard_offset.shard = partition_lease.n
        WHERE partition_lease.job = 'shards'
        ORDER BY partition_lease.n";
}

/// What of the stream is read to see how far behind the shards are: so many times so many bytes.
const READS_MAX: usize = 8;
const READ_BYTES: usize = 1 << 20;
/// How long it is read; shards with nothing new say nothing.
const READ_TIME: Duration = Duration::from_millis(400);
/// Nothing came for so long: there is no more.
const QUIET: Duration = Duration::from_millis(150);

/// A look is shared for so long by all who ask: on a stream over the network each costs dozens of requests and
/// some consumers.
const SHARED_FOR: Duration = Duration::from_secs(2);

/// The last look at the stream; locked while one is taken.
pub(crate) type LastLook = Arc<tokio::sync::Mutex<Option<(Instant, Vec<ShardLag>)>>>;

/// One shard.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ShardLag)]
pub struct ShardLag {
    /// Its number: agent number modulo 64.
    pub shard: u16,
    /// The name of the instance that folds it; none has it when this is empty.
    pub holder: Option<String>,
    /// How often it has changed hands.
    pub epoch: u64,
    /// The position up to which it is folded and committed.
    pub committed: u64,
    /// The newest position that was seen.
    pub newest: u64,
    /// Records that were seen above it.
    pub lag_records: u64,
    /// Whether there may be more of them than were counted.
    pub lag_is_more: bool,
    /// How long the first of them has been waiting.
    pub lag_seconds: f64,
    /// Why it stands still, when it does.
    pub problem: Option<String>,
}

/// The 64 shards: who folds them, and how far the fold is behind the stream.
#[utoipa::path(get, path = "/shards", operation_id = "shards.list", tag = "system",
    responses((status = OK, body = Page<ShardLag>)))]
pub(crate) async fn list(State(state): State<ApiState>) -> Result<axum::Json<Page<ShardLag>>> {
    let mut last = Arc::clone(&state.last_look).lock_owned().await;
    if let Some((at, shards)) = &*last
        && at.elapsed() < SHARED_FOR
    {
        return Ok(axum::Json(Page::whole(shards.clone())));
    }
    // In a task of its own: else those who do not wait for their answer would have one begun after the other.
    let tasks = state.tasks.clone();
    let look = async move {
        let shards = all_now(&state).await?;
        *last = Some((Instant::now(), shards.clone()));
        Ok(axum::Json(Page::whole(shards)))
    };
    tasks.spawn(look).await.map_err(Problem::internal)?
}

async fn all_now(state: &ApiState) -> Result<Vec<ShardLag>> {
    let names: BTreeMap<InstanceId, String> = muster_cluster::instances(&state.catalog)
        .await?
        .into_iter()
        .map(|instance| (instance.info.id, instance.info.name))
        .collect();
    let mut shards = Vec::new();
    for row in state.catalog.fetch_all(&SHARDS, args![]).await? {
        let holder: Option<InstanceId> = row.get("holder")?;
        let committed = row.get::<Option<Pos>>("pos")?.unwrap_or(Pos(0)).0;
        shards.push(ShardLag {
            shard: row.get("n")?,
            holder: holder.map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string())),
            epoch: row.get::<muster_types::Epoch>("epoch")?.0,
            committed,
            newest: committed,
            lag_records: 0,
            lag_is_more: false,
            lag_seconds: 0.0,
            problem: None,
        });
    }
    if let Some(stream) = &state.stream {
        look(&**stream, &mut shards, state.clock.now()).await;
    }
    Ok(shards)
}

/// Reads on from the committed positions, within bounds.
async fn look(stream: &dyn Stream, shards: &mut [ShardLag], now: Timestamp) {
    let until = Instant::now() + READ_TIME;
    let mut reader = loop {
        let standing = shards.iter().filter(|shard| shard.problem.is_none());
        let number = |shard: &ShardLag| Shard::new(u8::try_from(shard.shard).ok()?);
        let after = standing.filter_map(|shard| Some((number(shard)?, Pos(shard.committed))));
        match timeout_at(until, stream.reader(after.collect())).await {
            Ok(Ok(reader)) => break reader,
            Ok(Err(ReadError::TrimmedBelow { shard, oldest, .. })) => {
                let gone = format!("what was not folded is gone from the stream, up to {oldest}");
                match shards.iter_mut().find(|it| usize::from(it.shard) == shard.index()) {
                    Some(found) => found.problem = Some(gone),
                    None => return,
                }
            }
            Ok(Err(error)) => return all(shards, &error.to_string()),
            Err(_) => return all(shards, "the stream did not answer in time"),
        }
    };
    for read in 1..=READS_MAX {
        let quiet = (Instant::now() + QUIET).min(until);
        let Ok(Ok(entries)) = timeout_at(quiet, reader.next(READ_BYTES)).await else { break };
        for entry in entries {
            let shard = entry.record.agent.shard().index();
            let Some(it) = shards.iter_mut().find(|it| usize::from(it.shard) == shard) else {
                continue;
            };
            if it.lag_records == 0 {
                it.lag_seconds = now.since(entry.record.received_at).as_secs_f64();
            }
            it.lag_records += 1;
            it.newest = it.newest.max(entry.pos.0);
        }
        if read == READS_MAX || Instant::now() >= until {
            shards.iter_mut().for_each(|shard| shard.lag_is_more = shard.problem.is_none());
            break;
        }
    }
}

fn all(shards: &mut [ShardLag], problem: &str) {
    shards.iter_mut().for_each(|shard| shard.problem = Some(problem.to_owned()));
}
