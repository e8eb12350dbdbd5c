//! One store away, and what each operation does then: the cells of `docs/src/outages.md`.

mod archive;
mod catalog;
mod hints;
mod osquery;
mod person;
mod stream;

use std::time::{Duration, Instant};

use anyhow::ensure;
use muster_testkit::{Cluster, ClusterOptions, Nats, Postgres, Stores, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use self::osquery::Osquery;
use self::person::{Answer, Person};
use crate::support::{Ask as _, Fleet, SOON, Told};

/// Simulated native agents, and rows of each answer.
const AGENTS: u64 = 20;
const ROWS: u64 = 3;
/// What anybody may have to wait for an answer, by the promise; this machine is shared.
const ANSWERED: Duration = Duration::from_secs(5);
/// Longer than a lease lives: whoever holds one has lost it by then. `MUSTER_OUTAGE` is another number of
/// seconds.
fn long() -> Duration {
    let given = std::env::var("MUSTER_OUTAGE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(10))
}

/// One server with all roles on stores of its own, and those who use it.
struct Site {
    native: Fleet,
    osquery: Osquery,
    person: Person,
    cluster: Cluster,
    postgres: Postgres,
    database: String,
    _dir: TempDir,
}

impl Site {
    /// `more` adds stream, bus and archive.
    fn open(more: impl FnOnce(Stores) -> Stores, env: &[(String, String)]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-outage-").tempdir()?;
        let postgres = Postgres::own()?;
        let url = postgres.tcp_database()?;
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        let archive = format!("file://{}", dir.path().join("archive").display());
        let stores = Stores::default().key("catalog", "url", &url);
        let mut stores = more(stores.key("archive", "url", &archive));
        for (key, value) in env {
            stores = stores.env(key, value);
        }
        let cluster = Cluster::start(&ClusterOptions::new(stores).instances(1))?;
        let (agents, rows) = (AGENTS.to_string(), ROWS.to_string());
        let command = cluster.native_agents(&["--endpoints", &agents, "--canned", &rows])?;
        let mut native = Fleet::spawn(command)?;
        native.up(AGENTS, AGENTS)?;
        let person = Person::new(&cluster)?;
        let osquery = Osquery::enrol(&cluster)?;
        Ok(Self { native, osquery, person, cluster, postgres, database, _dir: dir })
    }

    /// A hunt that is on its way for some seconds; returns when it has begun.
    fn hunt(&self) -> anyhow::Result<u64> {
        let one = self.cluster.instance(0);
        let sql = ["--sql", "SELECT pid FROM processes", "--canary", "0", "--rate", "4"];
        let hunt = one.hunt(&sql)?;
        one.covered(hunt, "its first answers", |c| c.get("rows") >= 2)?;
        Ok(hunt)
    }

    /// Everybody it was for has answered once, and every row is there once.
    fn hunted(&self, hunt: u64) -> anyhow::Result<()> {
        let one = self.cluster.instance(0);
        let all = one.covered(hunt, "all answers", |c| c.get("rows") == AGENTS)?;
        assert!(all.sums(), "{all:?}");
        assert_eq!(all.get("row_count"), AGENTS * ROWS, "{all:?}");
        Ok(())
    }

    /// Rows of a result table, as the manifest has them.
    fn stored(&self, table: &str) -> anyhow::Result<u64> {
        let sql = format!(
            "SELECT COALESCE(sum(p.row_count), 0) FROM segment_part p
             WHERE p.table_name = '{table}' AND p.object IN (SELECT object FROM segment)"
        );
        Ok(self.postgres.sql_in(&self.database, &sql)?.parse()?)
    }

    /// Lines that were taken are stored, once each.
    fn lines_stored(&self) -> anyhow::Result<()> {
        let taken = self.osquery.taken();
        let mut seen = 0;
        let stored = wait_for("all lines to be stored", SOON, || {
            seen = self.stored("osquery_other")?;
            Ok((seen >= taken).then_some(()))
        });
        ensure!(stored.is_ok() && seen == taken, "{taken} lines were taken and {seen} are stored");
        Ok(())
    }

    /// All native agents close their links and come again.
    fn native_comes_again(&mut self) -> anyhow::Result<()> {
        self.native.say("storm")?;
        self.native.up(AGENTS, AGENTS)
    }

    /// The page is there, whatever is away.
    fn shows_its_page(&self) -> anyhow::Result<()> {
        let page = self.person.page()?;
        assert_eq!(page.status, 200, "{page:?}");
        assert_in_time("the page is there", page.took);
        Ok(())
    }

    /// Asks one native endpoint, as people do, and waits for its rows.
    fn asked(&self) -> anyhow::Result<Told> {
        let question = ["query", "SELECT pid FROM processes", "-e", "1", "-o", "csv"];
        let told =
            self.cluster.instance(0).tell(&[&question[..], &["--timeout", "8s"]].concat())?;
        ensure!(told.out.lines().count() as u64 == 1 + ROWS, "a header and {ROWS} rows: {told:?}");
        Ok(told)
    }

    fn is_alive(&self) -> anyhow::Result<()> {
        let one = self.cluster.instance(0);
        ensure!(one.ended()?.is_none(), "the server ended: {}", one.log());
        ensure!(one.health("/livez")?.starts_with("HTTP/1.1 200"), "not alive");
        Ok(())
    }

    /// Waits until lists are answered again; how long that took.
    fn back(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        wait_for("the server to answer again", SOON, || {
            Ok((self.person.list()?.status == 200).then_some(()))
        })?;
        Ok(began.elapsed())
    }
}

/// 503 as problem details, with a time to come again.
fn assert_away(what: &str, answer: &Answer) {
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    assert!(answer.retry_after.is_some(), "{what}: {answer:?}");
    assert_eq!(answer.body["code"], Value::from("unavailable"), "{what}: {answer:?}");
}

/// Prints what a bound was measured as, and insists on it with room for a busy machine.
fn assert_in_time(what: &str, took: Duration) {
    println!("{what}: at most {took:?}");
    assert!(took < ANSWERED * 2, "{what}: {took:?}");
}

/// The same for people, some of whose questions start a process: before their client would give up.
fn assert_people_in_time(what: &str, took: Duration) {
    println!("{what}: at most {took:?}");
    assert!(took < ANSWERED * 5, "{what}: {took:?}");
}

fn with_nats(stores: Stores, nats: &Nats) -> Stores {
    stores.key("stream", "url", &nats.url()).key("nats", "replicas", "1")
}
