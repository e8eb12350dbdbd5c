//! What keeps [`crate::Inventory`] in step with the catalog and with the other instances.

use std::time::Duration;

use muster_bus::{Hint, Topic};
use muster_catalog::{Error, args};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::blocks::{self, Blocks};
use crate::inventory::{Inner, seconds};
use crate::{policy, refetch};

const FOLLOW_EVERY: Duration = Duration::from_secs(1);
const READ_EVERY: Duration = Duration::from_secs(15);
const WRITE_EVERY: Duration = Duration::from_secs(30);

muster_catalog::statements! {
    NEWEST = "SELECT seq FROM feed WHERE topic = 'inventory'";
}

/// How far the feed is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(i64);

/// At the start: everything.
pub(crate) async fn load(inner: &Inner) -> Result<(), Error> {
    Blocks::default().read(inner).await?;
    follow(inner).await
}

/// Takes in policies and wishes that are committed by now.
pub(crate) async fn follow(inner: &Inner) -> Result<(), Error> {
    let mut cursor = inner.cursor.lock().await;
    let catalog = &inner.deps.catalog;
    let newest = match catalog.fetch_optional(&NEWEST, args![]).await? {
        Some(row) => row.get("seq")?,
        None => 0,
    };
    if newest == cursor.0 {
        return Ok(());
    }
    let policies = policy::read_since(catalog, cursor.0).await?;
    let wishes = refetch::read_since(catalog, cursor.0).await?;
    let now = seconds(inner.deps.clock.now());
    for (agent, at) in wishes {
        inner.rounds.want(agent, seconds(at).min(now));
    }
    inner.policies.put(policies);
    blocks::note_policies(inner);
    cursor.0 = newest;
    Ok(())
}

pub(crate) async fn run(inner: &Inner, shutdown: &CancellationToken) {
    let bus = &inner.deps.bus;
    let mut hints = bus.subscribe(&[Topic::Inventory]);
    let mut blocks = Blocks::default();
    let (mut tick, mut read, mut write) =
        (interval(FOLLOW_EVERY), interval(READ_EVERY), interval(WRITE_EVERY));
    for ticks in [&mut tick, &mut read, &mut write] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let done = tokio::select! {
            () = shutdown.cancelled() => break,
            hint = hints.next() => match hint {
                Some(Hint::Message(_, content)) if !content.is_empty() => {
                    blocks::hear(inner, content);
                    Ok(())
                }
                Some(Hint::Message(..) | Hint::Gap) => follow(inner).await,
                None => break,
            },
            _ = tick.tick() => {
                for content in blocks::hints(&blocks::take_untold(inner)) {
                    bus.publish(Topic::Inventory, content);
                }
                follow(inner).await
            }
            _ = read.tick() => blocks.read(inner).await,
            _ = write.tick() => blocks.write(inner).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the inventory could not be kept in step; it will be tried again");
        }
    }
    if let Err(error) = blocks.write(inner).await {
        tracing::warn!(%error, "who was asked could not be written at the end");
    }
}
