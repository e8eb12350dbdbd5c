//! The primary dies and its synchronous standby takes over: what was acknowledged is there, and the
//! catalog is too, without anybody telling it where.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster_catalog::{Catalog, Error, Options, Priority, Statement, args, statements};
use muster_testkit::Postgres;

statements! {
    PUT = "INSERT INTO secret (name, sealed, created_at) VALUES ($1, $2, 0)";
    small NAMES = "SELECT name FROM secret";
    ONE = "SELECT 1 AS one";
    ROLE = { sqlite: "SELECT 0 AS replica", postgres: "SELECT CAST(CAST(pg_is_in_recovery() AS INTEGER) AS BIGINT) AS replica" };
}

/// A bound for a busy machine; what it took is printed.
const RECOVERED: Duration = Duration::from_secs(20);
/// What a person may have to wait for an answer.
const ANSWERED: Duration = Duration::from_secs(5);

struct Pair {
    primary: Postgres,
    standby: Postgres,
    url: String,
}

impl Pair {
    fn start() -> Self {
        let primary = Postgres::own().unwrap();
        let name = primary.tcp_database().unwrap();
        let name = name.rsplit('/').next().unwrap().to_owned();
        let standby = primary.standby().unwrap();
        // The standby first: it is passed over as long as it is one.
        let url = format!(
            "postgres://postgres@{},{}/{name}?target_session_attrs=read-write",
            standby.address(),
            primary.address()
        );
        Self { primary, standby, url }
    }
}

async fn put(catalog: &Catalog, name: &str, statement: &Statement) -> Result<(), Error> {
    let mut tx = catalog.begin(Priority::Api).await?;
    tx.execute(statement, args![name, b"x"]).await?;
    tx.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost() {
    let pair = Pair::start();
    let catalog = Catalog::open(&pair.url, Options::default()).await.unwrap();
    catalog.migrate().await.unwrap();
    let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (catalog, stop) = (catalog.clone(), stop.clone());
        let committed = committed.clone();
        writers.spawn(async move {
            let (mut kept, mut unknown) = (Vec::new(), 0);
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{writer}.{n}");
                let done = match writer % 2 {
                    0 => put(&catalog, &name, &PUT).await,
                    _ => {
                        let one = catalog.execute(Priority::Api, &PUT, args![&name, b"x"]).await;
                        one.map(drop)
                    }
                };
                match done {
                    Ok(()) => {
                        kept.push(name);
                        committed.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        // A second try under the same name would say which it was; here it stays open.
                        assert!(error.is_retryable(), "{error:?}");
                        unknown += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            (kept, unknown)
        });
    }
    // In the middle of their work.
    let began = Instant::now();
    while committed.load(Ordering::Relaxed) <= 20 {
        assert!(began.elapsed() < Duration::from_secs(60), "they get nowhere");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    pair.primary.kill().unwrap();
    let died = Instant::now();
    pair.standby.promote().unwrap();
    let promoted = Instant::now();
    let recovered = loop {
        match put(&catalog, "after", &PUT).await {
            Ok(()) => break Instant::now(),
            Err(error) if error.is_unique_violation() => break Instant::now(),
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        assert!(promoted.elapsed() < RECOVERED, "not back {RECOVERED:?} after the promotion");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut kept, mut unknown) = (Vec::new(), 0);
    for (some, open) in writers.join_all().await {
        kept.extend(some);
        unknown += open;
    }
    let there: BTreeSet<String> = catalog
        .fetch_all(&NAMES, args![])
        .await
        .unwrap()
        .iter()
        .map(|r| r.get("name").unwrap())
        .collect();
    for name in &kept {
        assert!(there.contains(name), "{name} was acknowledged and is lost");
    }
    println!(
        "{} acknowledged, {unknown} refused or unknown; promoted {:?} after the death, back {:?} later",
        kept.len(),
        promoted.duration_since(died),
        recovered.duration_since(promoted)
    );
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_told_in_time_and_found_again() {
    let server = Postgres::own().unwrap();
    let url = server.tcp_database().unwrap();
    let catalog = Catalog::open(&url, Options::default()).await.unwrap();
    catalog.migrate().await.unwrap();
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    tx.execute(&PUT, args!["in flight", b"x"]).await.unwrap();

    server.pause().unwrap();
    let began = Instant::now();
    // More than there are connections, in every form, at once.
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..24 {
        let catalog = catalog.clone();
        waiting.spawn(async move {
            match n % 3 {
                0 => catalog.fetch_optional(&ONE, args![]).await.map(drop),
                1 => put(&catalog, &format!("away {n}"), &PUT).await,
                _ => catalog
                    .execute(Priority::Api, &PUT, args![format!("away {n}"), b"x"])
                    .await
                    .map(drop),
            }
        });
    }
    let committed = tx.commit().await;
    for result in waiting.join_all().await {
        assert!(result.unwrap_err().is_retryable());
    }
    assert!(committed.unwrap_err().is_retryable());
    println!("all told after {:?}", began.elapsed());
    assert!(began.elapsed() < ANSWERED * 2, "{:?}", began.elapsed());
    assert!(!catalog.is_available());
    // While it is known to be away nobody waits for long, and one at a time looks.
    let began = Instant::now();
    for _ in 0..20 {
        assert!(catalog.fetch_optional(&ONE, args![]).await.is_err());
    }
    assert!(began.elapsed() < ANSWERED * 2, "{:?}", began.elapsed());

    server.resume().unwrap();
    let began = Instant::now();
    while catalog.fetch_optional(&ONE, args![]).await.is_err() {
        assert!(began.elapsed() < RECOVERED);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("back after {:?}", began.elapsed());
    assert!(catalog.is_available());

    // And by a stop and a start, as for an update.
    server.stop().unwrap();
    assert!(catalog.fetch_optional(&ONE, args![]).await.unwrap_err().is_retryable());
    server.restart().unwrap();
    let began = Instant::now();
    while put(&catalog, "after", &PUT).await.is_err() {
        assert!(began.elapsed() < RECOVERED);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_survives_the_loss_of_its_connection() {
    let server = Postgres::own().unwrap();
    let catalog = Catalog::open(&server.tcp_database().unwrap(), Options::default()).await.unwrap();
    catalog.migrate().await.unwrap();
    for _ in 0..20 {
        catalog.fetch_optional(&ONE, args![]).await.unwrap();
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'muster'").unwrap();
    }
    catalog.close().await;
}

async fn served_by_replica(catalog: &Catalog) -> bool {
    let row = catalog.fetch_optional(&ROLE, args![]).await.unwrap().unwrap();
    row.get::<i64>("replica").unwrap() == 1
}

/// A catalog that reads from the replica already.
async fn beside(url: &str, primary: &Postgres, replica: &Postgres) -> Catalog {
    let replicas = vec![url.replace(&primary.address(), &replica.address())];
    let catalog = Catalog::open(url, Options { replicas, ..Options::default() }).await.unwrap();
    catalog.migrate().await.unwrap();
    let began = Instant::now();
    while !served_by_replica(&catalog.stale()).await {
        assert!(began.elapsed() < RECOVERED, "the replica is never asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    catalog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_reads_go_to_a_replica_while_it_follows() {
    let primary = Postgres::own().unwrap();
    let url = primary.tcp_database().unwrap();
    let replica = primary.replica().unwrap();
    let catalog = beside(&url, &primary, &replica).await;
    assert!(!served_by_replica(&catalog).await);
    // Changes of a stale handle go to the primary.
    put(&catalog.stale(), "through", &PUT).await.unwrap();

    replica.kill().unwrap();
    assert!(!served_by_replica(&catalog.stale()).await, "a dead replica is passed over");
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_became_a_primary_of_its_own_is_passed_over() {
    let primary = Postgres::own().unwrap();
    let url = primary.tcp_database().unwrap();
    let replica = primary.replica().unwrap();
    let catalog = beside(&url, &primary, &replica).await;
    replica.promote().unwrap();
    put(&catalog, "behind its back", &PUT).await.unwrap();
    let began = Instant::now();
    loop {
        let rows = catalog.stale().fetch_all(&NAMES, args![]).await.unwrap();
        if rows.iter().any(|row| row.get::<String>("name").unwrap() == "behind its back") {
            break;
        }
        assert!(began.elapsed() < RECOVERED, "it is read for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    catalog.close().await;
}

#[tokio::test]
async fn a_standby_alone_is_no_catalog() {
    let pair = Pair::start();
    let alone = pair.url.replace(&format!(",{}", pair.primary.address()), "");
    let refused = Catalog::open(&alone, Options::default()).await.unwrap_err();
    assert!(refused.to_string().contains("it is a standby"), "{refused}");
}
