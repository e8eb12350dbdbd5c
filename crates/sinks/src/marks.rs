//! Marks: where all shards stood at some commit, so that a sink that is far behind goes on in steps
//! of some commits instead of one look at everything.
//!
//! They are written only while a sink is behind, and dropped when none needs them. Fewer marks mean
//! larger steps, never wrong ones.

use std::time::Duration;

use muster_catalog::{Catalog, Priority, args};
use muster_cluster::Held;
use muster_types::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::head::Head;
use crate::position::Positions;

muster_catalog::statements! {
    /// How far the sink is that is furthest behind, and the newest mark.
    small BEHIND = "
        SELECT MIN(p.commit_no) AS behind, (SELECT MAX(commit_no) FROM commit_mark) AS marked
        FROM sink_progress AS p";

    /// A mark; of two that are made at once one stays, and they are the same.
    ADD_MARK = "
        INSERT INTO commit_mark (commit_no, positions, marked_at)
        VALUES ($1, $2, $3)
        ON CONFLICT (commit_no) DO NOTHING";

    /// The first mark behind a commit.
    NEXT_MARK = "
        SELECT commit_no, positions
        FROM commit_mark
        WHERE commit_no > $1
        ORDER BY commit_no
        LIMIT 1";

    /// Marks that no sink needs.
    DROP_MARKS = "DELETE FROM commit_mark WHERE commit_no <= $1";

    /// How many there are.
    small COUNT_MARKS = "SELECT COUNT(*) AS n FROM commit_mark";

    /// Every second one.
    small THIN_MARKS = "
        DELETE FROM commit_mark
        WHERE commit_no IN (
            SELECT commit_no
            FROM (
                SELECT commit_no, ROW_NUMBER() OVER (ORDER BY commit_no) AS n FROM commit_mark
            ) AS numbered
            WHERE n % 2 = 0)";
}

/// Commits between two marks.
const COMMITS: i64 = 32;
/// Most marks; then every second one goes.
const MARKS_MAX: i64 = 8192;
/// Marks while partition 0 of the sinks' job is held here, until `shutdown`.
pub(crate) async fn run(
    catalog: &Catalog,
    clock: &dyn Clock,
    leases: watch::Receiver<Held>,
    every: Duration,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        if leases.borrow().epoch(0).is_none() {
            continue;
        }
        if let Err(error) = mark_once(catalog, clock).await {
            tracing::warn!(%error, "a mark for sinks could not be made");
        }
    }
}

/// Makes a mark when one is due, and drops those that are of no use.
pub(crate) async fn mark_once(catalog: &Catalog, clock: &dyn Clock) -> Result<(), Error> {
    let Some(row) = catalog.fetch_optional(&BEHIND, args![]).await? else { return Ok(()) };
    let behind: Option<i64> = row.get("behind")?;
    let marked: Option<i64> = row.get("marked")?;
    let head = Head::place(catalog).await?;
    let behind = behind.unwrap_or(head.commit);
    if marked.is_some() {
        catalog.execute(Priority::Presence, &DROP_MARKS, args![behind]).await?;
    }
    let last = marked.unwrap_or(behind).max(behind);
    if head.commit < last + COMMITS {
        return Ok(());
    }
    let values = args![head.commit, head.positions.encode(), clock.now()];
    catalog.execute(Priority::Presence, &ADD_MARK, values).await?;
    let count = catalog.fetch_optional(&COUNT_MARKS, args![]).await?;
    if count.map_or(Ok(0), |row| row.get::<i64>("n"))? > MARKS_MAX {
        catalog.execute(Priority::Presence, &THIN_MARKS, args![]).await?;
    }
    Ok(())
}

/// The first mark behind a commit.
pub(crate) async fn next(
    catalog: &Catalog,
    commit: i64,
) -> Result<Option<(i64, Positions)>, Error> {
    let Some(row) = catalog.fetch_optional(&NEXT_MARK, args![commit]).await? else {
        return Ok(None);
    };
    let positions = Positions::decode(&row.get::<Vec<u8>>("positions")?)
        .ok_or_else(|| Error::Damaged("positions of a mark".to_owned()))?;
    Ok(Some((row.get("commit_no")?, positions)))
}
