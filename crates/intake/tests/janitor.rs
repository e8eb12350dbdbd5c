//! The janitor deletes by the clocks of the catalog and of the archive, whatever this machine's says.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use muster_archive::sweep::OrphanOptions;
use muster_archive::{Archive, Pause, day_name, manifest, segment_name};
use muster_catalog::{Catalog, Priority, args, statements};
use muster_cluster::Held;
use muster_intake::janitor::{Janitor, Options, base_orphans_once, round};
use muster_testkit::TempCatalog;
use muster_types::{Clock, Epoch, SystemClock, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

statements! {
    HOLD = "
        INSERT INTO segment_hold (id, objects, held_by, expires_at)
        VALUES ($1, '[]', 'test', $2)";
    small HOLDS = "SELECT held_by FROM segment_hold ORDER BY held_by";
}

const HOUR: Duration = Duration::from_secs(3600);

struct Site {
    catalog: Catalog,
    archive: Archive,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(temp: &TempCatalog) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(&format!("file://{}", folder.path().display())).unwrap();
        Self { catalog: temp.catalog.clone(), archive, folder }
    }

    /// An object that nobody names, put so long ago.
    async fn orphan(&self, name: &str, age: Duration) {
        self.archive.put_new(name, Bytes::from_static(b"x")).await.unwrap();
        let file = File::options().write(true).open(self.folder.path().join(Path::new(name)));
        let file = file.unwrap();
        let put = file.metadata().unwrap().modified().unwrap();
        file.set_modified(put - age).unwrap();
    }

    async fn retired(&self, name: &str, not_before: Timestamp) {
        self.archive.put_new(name, Bytes::from_static(b"x")).await.unwrap();
        let mut tx = self.catalog.begin(Priority::Intake).await.unwrap();
        manifest::retire(&mut tx, &[name.to_owned()], not_before, "test").await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn is_there(&self, name: &str) -> bool {
        self.archive.size(name).await.unwrap().is_some()
    }

    async fn holds(&self) -> Vec<String> {
        let rows = self.catalog.fetch_all(&HOLDS, args![]).await.unwrap();
        rows.iter().map(|row| row.get("held_by").unwrap()).collect()
    }
}

/// Asks until it is so, for half a minute.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 30 s");
}

fn leases() -> watch::Receiver<Held> {
    let valid_until = tokio::time::Instant::now() + HOUR;
    watch::channel(Held { epochs: BTreeMap::from([(0, Epoch(1))]), valid_until }).1
}

#[tokio::test]
async fn time_is_the_catalogs() {
    for temp in TempCatalog::both().await.unwrap() {
        let site = Site::new(&temp);
        let now = site.catalog.now().await.unwrap();
        let today = now.day();
        let (due, later) = (segment_name(today, "due"), segment_name(today, "later"));
        site.retired(&due, now.minus(HOUR)).await;
        site.retired(&later, now.plus(HOUR)).await;
        let (young, old) = (segment_name(today - 1, "young"), segment_name(today - 2, "old"));
        site.orphan(&young, Duration::ZERO).await;
        site.orphan(&old, 30 * HOUR).await;
        let base = format!("state/v1/{}/base", day_name(today - 1));
        site.orphan(&base, Duration::ZERO).await;
        let pause = Pause::begin(site.catalog.clone(), "backup").await.unwrap();
        let over = args![Uuid::now_v7(), now.minus(HOUR)];
        site.catalog.execute(Priority::Api, &HOLD, over).await.unwrap();

        let options = Options {
            every: Duration::from_millis(20),
            rounds_between_slow: 1,
            ..Default::default()
        };
        let janitor = Janitor::new(site.catalog.clone(), site.archive.clone(), options, leases());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(janitor.run(shutdown.clone()));

        until("a round", || async { !site.holds().await.contains(&"test".to_owned()) }).await;
        assert_eq!(site.holds().await, ["backup"], "it lasts for ten minutes");
        assert!(site.is_there(&due).await && site.is_there(&old).await);
        pause.end().await.unwrap();
        until("due", || async { !site.is_there(&due).await }).await;
        until("old", || async { !site.is_there(&old).await }).await;
        assert!(site.is_there(&later).await, "somebody may read it for an hour");
        assert!(site.is_there(&young).await, "its transaction may follow");
        assert!(site.is_there(&base).await, "its transaction may follow");
        shutdown.cancel();
        running.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_young_by_the_archives_clock_stays_whatever_the_catalog_says() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let site = Site::new(&temp);
    let ahead = SystemClock.now().plus(48 * HOUR);
    let today = ahead.day() - 2;
    let segment = segment_name(today, "young");
    let base = format!("state/v1/{}/base", day_name(today));
    site.orphan(&segment, Duration::ZERO).await;
    site.orphan(&base, Duration::ZERO).await;
    round(&site.catalog, &site.archive, &Options::default(), true, ahead).await.unwrap();
    assert!(site.is_there(&segment).await && site.is_there(&base).await);
    assert!(site.archive.list("probe").await.unwrap().is_empty());

    // Old by both it goes.
    let orphans = OrphanOptions::default();
    assert_eq!(base_orphans_once(&site.catalog, &site.archive, &orphans, ahead).await.unwrap(), 1);
}

/// Large messages alone retire more than one step deletes.
#[tokio::test]
async fn a_round_deletes_all_that_is_due() {
    let temp = TempCatalog::sqlite().await.unwrap();
    let site = Site::new(&temp);
    let now = site.catalog.now().await.unwrap();
    let due: Vec<String> = (0..600).map(|n| segment_name(now.day(), &format!("due{n}"))).collect();
    let mut tx = site.catalog.begin(Priority::Intake).await.unwrap();
    manifest::retire(&mut tx, &due, now.minus(HOUR), "test").await.unwrap();
    tx.commit().await.unwrap();
    let done = round(&site.catalog, &site.archive, &Options::default(), false, now).await.unwrap();
    assert_eq!(done.swept, 600);
    let again = round(&site.catalog, &site.archive, &Options::default(), false, now).await.unwrap();
    assert_eq!(again.swept, 0);
}
