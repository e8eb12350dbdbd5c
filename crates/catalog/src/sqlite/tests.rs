//! The writer: order, groups, and what happens when they fail.

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{Mutex, oneshot};

use super::queue::{self, Queue, Work};
use super::{SqliteTx, connect, lock, writer};
use crate::{Error, Options, Priority, args};

crate::statements! {
    ADD = "INSERT INTO item (n, parent, body) VALUES ($1, $2, $3)";
    COUNT = "SELECT count(*) AS n FROM item";
    SLOW = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000)
        INSERT INTO item (n, parent, body) SELECT n, NULL, '' FROM c WHERE n < 0";
}

/// A foreign key that is judged at COMMIT makes a COMMIT fail at will.
const TABLE: &str = "CREATE TABLE item (
    n INTEGER PRIMARY KEY,
    parent INTEGER REFERENCES item (n) DEFERRABLE INITIALLY DEFERRED,
    body TEXT NOT NULL
)";

struct Bench {
    queue: Queue,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new(options: Options, pragma: Option<(&'static str, &'static str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let mut connection = connect::writer(&path).await.unwrap();
        sqlx::query(TABLE).execute(&mut connection).await.unwrap();
        sqlx::query("PRAGMA foreign_keys = ON").execute(&mut connection).await.unwrap();
        if let Some((name, value)) = pragma {
            let text = sqlx::AssertSqlSafe(format!("PRAGMA {name} = {value}"));
            sqlx::query(text).execute(&mut connection).await.unwrap();
        }
        let lock = lock::acquire(&path, Duration::ZERO).await.unwrap();
        let (queue, waiting) = queue::channel(&options);
        tokio::spawn(writer::start(path, connection, waiting, options, Arc::default(), lock));
        Self { queue, dir }
    }

    async fn begin(&self, priority: Priority) -> Result<SqliteTx, Error> {
        let (grant, granted) = oneshot::channel();
        self.queue.push(priority, Work::Transaction { grant, hold: None }).await?;
        granted.await.unwrap()
    }

    /// Adds an item in a unit that is queued before this returns.
    async fn add(&self, n: i64, parent: Option<i64>) -> impl Future<Output = Result<(), Error>> {
        let (grant, granted) = oneshot::channel();
        self.queue.push(Priority::Api, Work::Transaction { grant, hold: None }).await.unwrap();
        async move {
            let mut tx = granted.await.unwrap()?;
            tx.execute(&ADD, args![n, parent, "x"]).await?;
            tx.commit().await
        }
    }

    async fn count(&self) -> i64 {
        let mut reader = self.reader().await;
        super::bind::fetch_all(&mut reader, &COUNT, args![]).await.unwrap()[0].get("n").unwrap()
    }

    async fn reader(&self) -> SqliteConnection {
        let path = self.dir.path().join("catalog.db");
        SqliteConnectOptions::new().filename(path).connect().await.unwrap()
    }
}

/// Everything queued shares one group, however slow the machine.
fn one_group() -> Options {
    Options { group_time_max: Duration::from_secs(60), ..Options::default() }
}

#[tokio::test]
async fn a_failed_commit_fails_every_unit_of_its_group() {
    let bench = Bench::new(one_group(), None).await;
    let first = bench.begin(Priority::Api).await.unwrap();
    let good = bench.add(1, None).await;
    let orphan = bench.add(2, Some(77)).await;
    drop(first);
    let (good, orphan) = tokio::join!(good, orphan);
    for result in [good, orphan] {
        assert!(result.unwrap_err().to_string().contains("FOREIGN KEY"));
    }
    assert_eq!(bench.count().await, 0);
    bench.add(3, None).await.await.unwrap();
    assert_eq!(bench.count().await, 1);
}

#[tokio::test]
async fn a_failed_unit_leaves_its_group_alone() {
    let bench = Bench::new(one_group(), None).await;
    let first = bench.begin(Priority::Api).await.unwrap();
    let (one, again, two) =
        (bench.add(1, None).await, bench.add(1, None).await, bench.add(2, None).await);
    drop(first);
    let (one, again, two) = tokio::join!(one, again, two);
    assert!(one.is_ok() && two.is_ok() && again.unwrap_err().is_unique_violation());
    assert_eq!(bench.count().await, 2);
}

#[tokio::test]
async fn a_full_disk_is_told_and_recovered_from() {
    let bench = Bench::new(one_group(), Some(("max_page_count", "20"))).await;
    let first = bench.begin(Priority::Api).await.unwrap();
    let small = bench.add(1, None).await;
    let (grant, granted) = oneshot::channel();
    bench.queue.push(Priority::Api, Work::Transaction { grant, hold: None }).await.unwrap();
    drop(first);
    let large = async {
        let mut tx = granted.await.unwrap()?;
        tx.execute(&ADD, args![2, None::<i64>, "x".repeat(1 << 20)]).await?;
        tx.commit().await
    };
    let (small, large) = tokio::join!(small, large);
    assert!(matches!(large, Err(Error::DiskFull)), "{large:?}");
    let written = i64::from(small.is_ok());
    assert_eq!(bench.count().await, written, "{small:?}");
    bench.add(3, None).await.await.unwrap();
    assert_eq!(bench.count().await, written + 1);
}

#[tokio::test]
async fn higher_priorities_go_first() {
    let bench = Bench::new(one_group(), None).await;
    let first = bench.begin(Priority::Api).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let rising = [Priority::Presence, Priority::Intake, Priority::Lease, Priority::Api];
    let mut units: Vec<_> = rising
        .into_iter()
        .map(|priority| {
            let (bench, order) = (&bench, order.clone());
            Box::pin(async move {
                let tx = bench.begin(priority).await.unwrap();
                order.lock().await.push(priority);
                tx.commit().await.unwrap();
            })
        })
        .collect();
    for unit in &mut units {
        assert!(poll!(unit).is_pending(), "queued");
    }
    drop(first);
    futures_util::future::join_all(units).await;
    let expected = [Priority::Api, Priority::Lease, Priority::Intake, Priority::Presence];
    assert_eq!(*order.lock().await, expected);
}

#[tokio::test]
async fn a_flood_of_one_priority_does_not_starve_another() {
    let bench = Bench::new(one_group(), None).await;
    let first = bench.begin(Priority::Api).await.unwrap();
    let order = Mutex::new(Vec::new());
    let mut units: Vec<_> = std::iter::repeat_n(Priority::Api, 100)
        .chain([Priority::Presence])
        .map(|priority| {
            let (bench, order) = (&bench, &order);
            Box::pin(async move {
                let tx = bench.begin(priority).await.unwrap();
                order.lock().await.push(priority);
                tx.commit().await.unwrap();
            })
        })
        .collect();
    for unit in &mut units {
        assert!(poll!(unit).is_pending(), "queued");
    }
    drop(first);
    futures_util::future::join_all(units).await;
    let served = order.lock().await.iter().position(|p| *p == Priority::Presence).unwrap();
    assert!(served < 40, "after {served} others");
}

#[tokio::test]
async fn holding_the_writer_too_long_is_cut_off() {
    let options = Options { hold_timeout: Duration::from_secs(1), ..Options::default() };
    let bench = Bench::new(options, None).await;
    let mut idle = bench.begin(Priority::Api).await.unwrap();
    idle.execute(&ADD, args![1, None::<i64>, "x"]).await.unwrap();
    // Served once the idle one is cut off.
    bench.add(2, None).await.await.unwrap();
    let late = idle.execute(&ADD, args![3, None::<i64>, "x"]).await.unwrap_err();
    assert!(late.to_string().contains("too long"), "{late}");
    assert!(idle.commit().await.is_err());

    let mut busy = bench.begin(Priority::Api).await.unwrap();
    let endless = busy.execute(&SLOW, args![]).await.unwrap_err();
    assert!(endless.is_retryable(), "{endless}");
    drop(busy);
    bench.add(4, None).await.await.unwrap();
    assert_eq!(bench.count().await, 2);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let options = Options {
        queue_length_max: 2,
        acquire_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let bench = Bench::new(options, None).await;
    let holder = bench.begin(Priority::Api).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (grant, granted) = oneshot::channel();
        bench.queue.push(Priority::Api, Work::Transaction { grant, hold: None }).await.unwrap();
        waiting.push(granted);
    }
    let full = bench.begin(Priority::Api).await.unwrap_err();
    assert!(full.is_retryable() && full.to_string().contains("full"), "{full}");
    drop(holder);
    let served = waiting.into_iter().map(async |granted| granted.await.unwrap()?.commit().await);
    for result in futures_util::future::join_all(served).await {
        result.unwrap();
    }
}
