//! Compaction, retention and sweeping: nothing lost, nothing twice, whatever breaks off.

mod common;

use std::time::Duration;

use common::{Faulty, NOON, flush, parts, values};
use muster_archive::compaction::{CompactOptions, compact_once};
use muster_archive::purge::{Place, purge_next};
use muster_archive::retention::{RetainOptions, retain_once};
use muster_archive::sweep::{OrphanOptions, orphans_once, sweep_once};
use muster_archive::{Archive, Error};
use muster_catalog::{Catalog, Priority, Statement, args};
use muster_results::{Dropped, RowClass};
use muster_testkit::TempCatalog;
use muster_types::{AgentNo, AgentSet, Clock, HuntNo, SystemClock, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);
const CLASS: RowClass = RowClass::Collected;

async fn fill(catalog: &Catalog, archive: &Archive, flushes: i64) {
    for n in 0..flushes {
        let at = Timestamp(NOON.0 + n * 1_000_000);
        let agent = u32::try_from(n % 5).unwrap();
        let rows = [
            ("t", CLASS, agent, 1 + n.unsigned_abs() % 3, n),
            ("u", CLASS, agent, 0, 1000 + n),
            ("s", RowClass::Scheduled, 7 - agent, 0, n),
        ];
        flush(catalog, archive, at, &rows).await;
    }
}

#[tokio::test]
async fn flushes_become_one_object_and_days_one_part() {
    for store in TempCatalog::both().await.unwrap() {
        let (catalog, faulty) = (&store.catalog, Faulty::never());
        let archive = Archive::with_store(faulty);
        fill(catalog, &archive, 10).await;
        let options = CompactOptions::default();
        let compact = async |at| compact_once(catalog, &archive, &options, at).await.unwrap();
        assert!(compact(NOON.plus(HOUR / 60)).await.is_none(), "too young");
        let done = compact(NOON.plus(HOUR / 4)).await.unwrap();
        assert_eq!((done.parts_in, done.parts_out, done.retired.len()), (30, 3, 10));
        assert_eq!((done.rows_in, done.rows_out), (30, 30));
        assert!(compact(NOON.plus(HOUR / 4)).await.is_none(), "nothing left to do");
        assert_eq!(values(catalog, &archive, "t").await, (0..10).collect::<Vec<_>>());
        assert_eq!(values(catalog, &archive, "u").await, (1000..1010).collect::<Vec<_>>());
        assert_eq!(parts(catalog, "s").await[0].level, 1);
        // A straggler of the same day goes to level 1 after an hour, and the day to level 2.
        flush(catalog, &archive, NOON, &[("t", CLASS, 1, 1, 10)]).await;
        assert!(compact(NOON.plus(HOUR / 2)).await.is_none());
        assert_eq!(compact(NOON.plus(2 * HOUR)).await.unwrap().parts_in, 1);
        assert!(compact(NOON.plus(3 * HOUR)).await.is_none());
        let done = compact(NOON.plus(14 * HOUR)).await.unwrap();
        assert_eq!((done.parts_in, done.parts_out), (2, 1));
        assert_eq!(parts(catalog, "t").await[0].level, 2);
        assert!(compact(NOON.plus(15 * HOUR)).await.is_none());
        assert_eq!(values(catalog, &archive, "t").await, (0..11).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn deleted_agents_go_with_compaction() {
    let store = TempCatalog::sqlite().await.unwrap();
    let archive = Archive::with_store(Faulty::never());
    fill(&store.catalog, &archive, 10).await;
    let mut agents = AgentSet::default();
    agents.insert(AgentNo(2));
    let dropped = Dropped { agents, ..Dropped::default() };
    let options = CompactOptions { dropped, ..CompactOptions::default() };
    let at = NOON.plus(HOUR);
    compact_once(&store.catalog, &archive, &options, at).await.unwrap().unwrap();
    assert_eq!(values(&store.catalog, &archive, "t").await, [0, 1, 3, 4, 5, 6, 8, 9]);
}

#[tokio::test]
async fn deleted_hunts_go_from_settled_parts_too() {
    for store in TempCatalog::both().await.unwrap() {
        let catalog = &store.catalog;
        let archive = Archive::with_store(Faulty::never());
        fill(catalog, &archive, 9).await;
        let options = CompactOptions::default();
        compact_once(catalog, &archive, &options, NOON.plus(HOUR)).await.unwrap().unwrap();
        let dropped = Dropped { hunts: [HuntNo(2)].into(), ..Dropped::default() };
        let options = CompactOptions { dropped, ..options };
        let (mut place, mut rows) = (Place::default(), 0);
        let at = NOON.plus(HOUR);
        while let Some(done) = purge_next(catalog, &archive, &options, &place, at).await.unwrap() {
            (place, rows) = (done.next, rows + done.rows);
        }
        assert_eq!(rows, 3);
        assert_eq!(values(catalog, &archive, "t").await, [0, 2, 3, 5, 6, 8]);
        assert_eq!(values(catalog, &archive, "s").await.len(), 9);
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stops_only_its_own_parts() {
    let store = TempCatalog::sqlite().await.unwrap();
    let (catalog, archive) = (&store.catalog, Archive::with_store(Faulty::never()));
    fill(catalog, &archive, 9).await;
    let mut lost: Vec<String> =
        archive.list("seg").await.unwrap().into_iter().map(|o| o.name).collect();
    lost.truncate(2);
    for object in &lost {
        archive.delete(object).await.unwrap();
    }
    let bytes = bytes::Bytes::from(vec![0; 100_000]);
    archive.put_new(&lost[1], bytes).await.unwrap();
    let (options, at) = (CompactOptions::default(), NOON.plus(HOUR));
    let done = compact_once(catalog, &archive, &options, at).await.unwrap().unwrap();
    assert_eq!((done.parts_in, done.rows_out, done.retired.len()), (21, 21, 7));
    let later = NOON.plus(3 * HOUR);
    assert!(compact_once(catalog, &archive, &options, later).await.unwrap().is_none());
    assert_eq!(parts(catalog, "t").await.len(), 3);
}

#[tokio::test]
async fn compaction_may_break_off_at_any_call_to_the_store() {
    let store = TempCatalog::sqlite().await.unwrap();
    let (catalog, faulty) = (&store.catalog, Faulty::never());
    let archive = Archive::with_store(faulty.clone());
    fill(catalog, &archive, 9).await;
    let options = CompactOptions::default();
    let (mut failures, at) = (0, NOON.plus(HOUR / 4));
    for calls in 0.. {
        faulty.fail_after(calls);
        let done = compact_once(catalog, &archive, &options, at).await;
        faulty.fail_after(i64::MAX);
        assert_eq!(values(catalog, &archive, "t").await, (0..9).collect::<Vec<_>>());
        match done {
            Ok(done) => {
                assert_eq!(done.unwrap().parts_in, 27);
                break;
            }
            Err(error) => assert!(matches!(error, Error::Store(_)), "{error}"),
        }
        failures += 1;
    }
    assert_eq!(failures, 28, "27 reads and a write");
    // The write that failed has happened: an orphan, which goes after a day of the store's clock.
    let written = archive.list("seg").await.unwrap();
    assert_eq!(written.len(), 9 + 2);
    let newest = written.iter().map(|object| object.modified).max().unwrap();
    let days = u16::try_from(newest.day() - NOON.day() + 1).unwrap();
    let orphans = OrphanOptions { days, ..OrphanOptions::default() };
    let orphans = OrphanOptions { payload_age: None, ..orphans };
    let before = newest.plus(23 * HOUR);
    assert_eq!(orphans_once(catalog, &archive, &orphans, before).await.unwrap(), 0);
    let after = newest.plus(25 * HOUR);
    assert_eq!(orphans_once(catalog, &archive, &orphans, after).await.unwrap(), 1);
    assert_eq!(values(catalog, &archive, "t").await, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn compaction_may_be_dropped_at_any_await() {
    let store = TempCatalog::sqlite().await.unwrap();
    let catalog = &store.catalog;
    let archive = Archive::with_store(Faulty::never());
    fill(catalog, &archive, 8).await;
    let options = CompactOptions::default();
    let at = NOON.plus(HOUR / 4);
    let mut dropped = 0;
    for polls in 1.. {
        let work = compact_once(catalog, &archive, &options, at);
        let done = tokio::select! {
            biased;
            done = counted(work, polls) => done,
        };
        assert_eq!(values(catalog, &archive, "t").await, (0..8).collect::<Vec<_>>());
        assert_eq!(values(catalog, &archive, "s").await, (0..8).collect::<Vec<_>>());
        if matches!(done, Some(Ok(_) | Err(Error::Stale))) {
            break;
        }
        dropped += 1;
    }
    assert!(dropped > 3, "{dropped} drops");
}

/// Drops a future after so many polls.
async fn counted<F: Future>(work: F, mut polls: u32) -> Option<F::Output> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(move |context| {
        if polls == 0 {
            return std::task::Poll::Ready(None);
        }
        polls -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn of_two_compactions_one_wins() {
    for store in TempCatalog::both().await.unwrap() {
        let catalog = &store.catalog;
        let archive = Archive::with_store(Faulty::never());
        fill(catalog, &archive, 8).await;
        let options = CompactOptions::default();
        let at = NOON.plus(HOUR / 4);
        let one = compact_once(catalog, &archive, &options, at);
        let two = compact_once(catalog, &archive, &options, at);
        let (one, two) = tokio::join!(one, two);
        let won = [&one, &two].into_iter().filter(|done| matches!(done, Ok(Some(_)))).count();
        assert_eq!(won, 1, "{one:?} {two:?}");
        assert_eq!(values(catalog, &archive, "t").await, (0..8).collect::<Vec<_>>());
    }
}

/// A process that was stopped in the middle of a compaction, at any point of it, and goes on when another
/// has taken its lease over, compacted and deleted what was replaced.
#[tokio::test]
async fn a_compaction_that_goes_on_too_late_changes_nothing() {
    let (options, at) = (CompactOptions::default(), NOON.plus(HOUR / 4));
    let mut late = 0;
    for polls in 1.. {
        let store = TempCatalog::sqlite().await.unwrap();
        let catalog = &store.catalog;
        let archive = Archive::with_store(Faulty::never());
        fill(catalog, &archive, 8).await;
        let mut stopped = Box::pin(compact_once(catalog, &archive, &options, at));
        if counted(stopped.as_mut(), polls).await.is_some() {
            break;
        }
        let other = async {
            // A segment holds all tables, and goes when none of them is in it any more.
            let mut rewrote = false;
            while compact_once(catalog, &archive, &options, at).await.unwrap().is_some() {
                rewrote = true;
            }
            (rewrote, sweep_once(catalog, &archive, at.plus(2 * HOUR)).await.unwrap())
        };
        // Stopped within a transaction it keeps the store for itself, and then it is not too late.
        let other = tokio::time::timeout(Duration::from_secs(1), other).await;
        let done = stopped.await;
        if let Ok((rewrote, swept)) = other {
            assert_eq!(swept, 8);
            // Its commit may have been under way when it was stopped: then the other found nothing
            // left to do. Exactly one of them changed the manifest.
            let first = matches!(done, Ok(Some(_)));
            assert_ne!(first, rewrote, "stopped after {polls} polls: {done:?}");
            late += u32::from(rewrote);
            // Whoever was too late took its object along.
            assert_eq!(archive.list("seg").await.unwrap().len(), 1, "after {polls} polls");
        }
        assert_eq!(values(catalog, &archive, "t").await, (0..8).collect::<Vec<_>>());
        assert_eq!(values(catalog, &archive, "s").await, (0..8).collect::<Vec<_>>());
    }
    assert!(late > 3, "too late {late} times only");
}

#[tokio::test]
async fn what_a_rewrite_of_an_older_day_leaves_behind_goes_after_a_day() {
    let store = TempCatalog::sqlite().await.unwrap();
    let (catalog, faulty) = (&store.catalog, Faulty::never());
    let archive = Archive::with_store(faulty.clone());
    let options = CompactOptions { min_parts: 2, ..CompactOptions::default() };
    // The store tells the time of day.
    let now = SystemClock.now();
    let then = now.minus(12 * 24 * HOUR);
    for n in 0..4 {
        flush(catalog, &archive, then, &[("t", CLASS, 1, 1, n)]).await;
        if n % 2 == 1 {
            compact_once(catalog, &archive, &options, then.plus(HOUR / 4)).await.unwrap().unwrap();
        }
    }
    faulty.fail_after(2);
    let cut = compact_once(catalog, &archive, &options, now).await.unwrap_err();
    assert!(matches!(cut, Error::Store(_)), "{cut}");
    faulty.fail_after(i64::MAX);
    assert_eq!(archive.list("seg").await.unwrap().len(), 4 + 2 + 1);

    let orphans = OrphanOptions::default();
    let swept = async |at| orphans_once(catalog, &archive, &orphans, at).await.unwrap();
    assert_eq!(swept(now.plus(23 * HOUR)).await, 0, "it may be named yet");
    assert_eq!(swept(now.plus(25 * HOUR)).await, 1);
    assert_eq!(values(catalog, &archive, "t").await, [0, 1, 2, 3]);
}

async fn add_hunt(catalog: &Catalog, no: i64, hold_until: Option<Timestamp>) {
    const TEXT: &str = "INSERT INTO hunt (no, org, kind, state, title, artifact, definition,
        table_name, scope, limits, caller_scope, requested_by, reason, hold_until, created_at,
        expires_at, wave, recruited_total, recruit_from, epoch, change)
        VALUES ($1, 1, 'hunt', 'ended', '', '', '', '', '', '', '', '', '', $2, 0, 0, 0, 0, 0, 0, 0)";
    let insert = Statement { name: "HUNT", sqlite: TEXT, postgres: TEXT, scans: false };
    let hold = hold_until.map(|at| at.0);
    catalog.execute(Priority::Api, &insert, args![no, hold]).await.unwrap();
}

async fn retain_all(catalog: &Catalog, archive: &Archive, at: Timestamp) -> u64 {
    let options =
        RetainOptions { collected_days: 90, scheduled_days: 10, ..RetainOptions::default() };
    let mut rows = 0;
    while let Some(done) = retain_once(catalog, archive, &options, at).await.unwrap() {
        rows += done.rows;
    }
    rows
}

#[tokio::test]
async fn retention_goes_by_class_and_spares_held_hunts() {
    for store in TempCatalog::both().await.unwrap() {
        let catalog = &store.catalog;
        let archive = Archive::with_store(Faulty::never());
        fill(catalog, &archive, 9).await;
        let day = 24 * HOUR;
        add_hunt(catalog, 1, None).await;
        add_hunt(catalog, 2, Some(NOON.plus(200 * day))).await;
        add_hunt(catalog, 3, Some(NOON.plus(100 * day))).await;
        let compact = CompactOptions::default();
        compact_once(catalog, &archive, &compact, NOON.plus(HOUR)).await.unwrap().unwrap();
        assert_eq!(retain_all(catalog, &archive, NOON.plus(10 * day)).await, 0);
        assert_eq!(retain_all(catalog, &archive, NOON.plus(11 * day)).await, 9);
        assert!(parts(catalog, "s").await.is_empty());
        // A reader that planned before goes on reading within the grace.
        let at = NOON.plus(91 * day);
        let planned = parts(catalog, "t").await;
        assert_eq!(retain_all(catalog, &archive, at).await, 9 + 3);
        sweep_once(catalog, &archive, at.plus(HOUR / 4)).await.unwrap();
        assert_eq!(common::read(&archive, &planned).await, (0..9).collect::<Vec<_>>());
        sweep_once(catalog, &archive, at.plus(HOUR)).await.unwrap();
        assert!(matches!(archive.get(&planned[0].object).await, Err(Error::NotFound(_))));
        assert_eq!(values(catalog, &archive, "t").await, [1, 2, 4, 5, 7, 8]);
        assert_eq!(retain_all(catalog, &archive, NOON.plus(101 * day)).await, 3);
        assert_eq!(values(catalog, &archive, "t").await, [1, 4, 7]);
        assert_eq!(retain_all(catalog, &archive, NOON.plus(201 * day)).await, 3);
        assert!(parts(catalog, "t").await.is_empty());
    }
}

#[tokio::test]
async fn sweeping_may_break_off() {
    let store = TempCatalog::sqlite().await.unwrap();
    let (catalog, faulty) = (&store.catalog, Faulty::never());
    let archive = Archive::with_store(faulty.clone());
    fill(catalog, &archive, 9).await;
    let options = CompactOptions::default();
    compact_once(catalog, &archive, &options, NOON.plus(HOUR)).await.unwrap().unwrap();
    let at = NOON.plus(2 * HOUR);
    for calls in 0..9 {
        faulty.fail_after(calls);
        sweep_once(catalog, &archive, at).await.unwrap_err();
    }
    faulty.fail_after(i64::MAX);
    assert_eq!(sweep_once(catalog, &archive, at).await.unwrap(), 9);
    assert_eq!(archive.list("seg").await.unwrap().len(), 1);
    assert_eq!(values(catalog, &archive, "t").await, (0..9).collect::<Vec<_>>());
}

/// Nine flushes in one object that is gone, and nine in one that is there.
async fn half_is_gone(catalog: &Catalog, archive: &Archive) {
    let options = CompactOptions::default();
    fill(catalog, archive, 9).await;
    let at = NOON.plus(HOUR);
    let gone = compact_once(catalog, archive, &options, at).await.unwrap().unwrap();
    fill(catalog, archive, 9).await;
    compact_once(catalog, archive, &options, at).await.unwrap().unwrap();
    archive.delete(&gone.object.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_purge_passes_over_what_cannot_be_read() {
    let store = TempCatalog::sqlite().await.unwrap();
    let (catalog, archive) = (&store.catalog, Archive::with_store(Faulty::never()));
    half_is_gone(catalog, &archive).await;
    let dropped = Dropped { hunts: [HuntNo(2)].into(), ..Dropped::default() };
    let options = CompactOptions { dropped, ..CompactOptions::default() };
    let (mut place, mut rows, mut unreadable) = (Place::default(), 0, 0);
    let at = NOON.plus(HOUR);
    while let Some(done) = purge_next(catalog, &archive, &options, &place, at).await.unwrap() {
        place = done.next;
        (rows, unreadable) = (rows + done.rows, unreadable + done.unreadable);
    }
    assert_eq!(
        (rows, unreadable),
        (3, 1),
        "of the object that is there, and one part of the other"
    );
    assert_eq!(parts(catalog, "t").await.iter().map(|part| part.info.row_count).sum::<u64>(), 15);
}

#[tokio::test]
async fn retention_passes_over_what_cannot_be_read() {
    let store = TempCatalog::sqlite().await.unwrap();
    let (catalog, archive) = (&store.catalog, Archive::with_store(Faulty::never()));
    half_is_gone(catalog, &archive).await;
    let day = 24 * HOUR;
    add_hunt(catalog, 2, Some(NOON.plus(200 * day))).await;
    let options =
        RetainOptions { collected_days: 90, scheduled_days: 10, ..RetainOptions::default() };
    let (mut rows, mut held, mut unreadable, at) = (0, 0, 0, NOON.plus(91 * day));
    while let Some(done) = retain_once(catalog, &archive, &options, at).await.unwrap() {
        (rows, held) = (rows + done.rows, held + done.held_rows);
        unreadable = unreadable.max(done.unreadable);
    }
    assert_eq!((rows, held), (9 + 9 + 9 + 9 + 6, 3), "what needs no reading goes as ever");
    assert!(unreadable <= 1);
    let left: Vec<u64> = parts(catalog, "t").await.iter().map(|part| part.info.row_count).collect();
    assert_eq!(left.iter().sum::<u64>(), 9 + 3, "the lost part stays, the other is parted");
}

#[tokio::test]
async fn the_present_state_has_no_age_and_reaches_its_base() {
    for store in TempCatalog::both().await.unwrap() {
        let catalog = &store.catalog;
        let archive = Archive::with_store(Faulty::never());
        let mut at = NOON;
        for n in 0..8 {
            at = at.plus(HOUR);
            common::flush_state(catalog, &archive, at, &[(1, n), (2, n), (33, n)]).await;
            let options = CompactOptions { min_parts: 2, ..CompactOptions::default() };
            while compact_once(catalog, &archive, &options, at).await.unwrap().is_some() {}
            let levels: Vec<u8> =
                parts(catalog, "x_current").await.iter().map(|p| p.level).collect();
            assert!(levels.len() < 8, "{levels:?}");
        }
        at = at.plus(2 * HOUR);
        let options = CompactOptions::default();
        while compact_once(catalog, &archive, &options, at).await.unwrap().is_some() {}
        let parts = parts(catalog, "x_current").await;
        let buckets: Vec<_> =
            parts.iter().map(|p| (p.info.day, p.level, p.info.row_count)).collect();
        // Of each agent a mark and eight rows; agents 1 and 33 share a bucket.
        let mut sorted = buckets.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [(1, 2, 18), (2, 2, 9)]);
        assert_eq!(retain_all(catalog, &archive, at.plus(4000 * 24 * HOUR)).await, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_left_alone_for_an_hour_and_keeps_nothing_else() {
    let store = TempCatalog::sqlite().await.unwrap();
    let catalog = &store.catalog;
    let archive = Archive::with_store(Faulty::never());
    let options = CompactOptions { min_parts: 2, ..CompactOptions::default() };
    let then = NOON;
    for n in 0..3 {
        flush(catalog, &archive, then, &[("t", CLASS, 1, 1, n)]).await;
    }
    let gone = archive.list("seg").await.unwrap().remove(0).name;
    let bytes = archive.get(&gone).await.unwrap();
    archive.delete(&gone).await.unwrap();
    let compact = async |at| compact_once(catalog, &archive, &options, at).await.unwrap();
    let now = then.plus(HOUR / 4);
    assert_eq!(compact(now).await.unwrap().parts_in, 2, "the others");
    // It is back, and not looked at again at once.
    archive.put_new(&gone, bytes).await.unwrap();
    assert!(compact(now.plus(HOUR * 59 / 60)).await.is_none());
    assert!(compact(now.plus(HOUR)).await.is_some());
    assert_eq!(values(catalog, &archive, "t").await, [0, 1, 2]);
}
