//! How long a shard, or a hunt, stands still when its holder joins, leaves or dies, and how instances end:
//! measured from what is committed, on PostgreSQL and NATS.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_catalog::{Catalog, Options, args, statements};
use muster_testkit::{Cluster, ClusterOptions, InstanceOptions, Nats, Postgres, Stores, wait_for};
use tempfile::TempDir;

use crate::support::{Ask, Fleet, OsqueryFleet, SOON};

statements! {
    small OFFSETS = "SELECT shard, pos, epoch FROM shard_offset ORDER BY shard";
    small WAVES = "SELECT no, wave FROM hunt";
}

/// Stores of a test, and what must outlive them.
struct Ground {
    stores: Stores,
    catalog: String,
    _nats: Nats,
    _dir: TempDir,
}

impl Ground {
    fn lay() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("muster-takeover-").tempdir()?;
        let (catalog, nats) = (Postgres::start()?.database()?, Nats::start()?);
        let stores = Stores::default()
            .key("catalog", "url", &catalog)
            .key("stream", "url", &nats.url())
            .key("nats", "replicas", "1")
            .key("archive", "url", &format!("file://{}", dir.path().join("archive").display()));
        Ok(Self { stores, catalog, _nats: nats, _dir: dir })
    }
}

/// What one shard did, as seen from its committed position.
#[derive(Clone, Copy, Debug)]
struct Seen {
    pos: i64,
    epoch: i64,
    /// When its position last rose.
    rose: Instant,
}

/// Looks at the positions of all shards, over and over.
struct Watch {
    runtime: tokio::runtime::Runtime,
    catalog: Catalog,
    shards: BTreeMap<i64, Seen>,
    /// Per shard that changed hands: from the last rows of one holder to the first of the next.
    gaps: BTreeMap<i64, Duration>,
    changing: BTreeMap<i64, Instant>,
    /// The longest between two commits of one holder to a shard.
    rested: Duration,
}

impl Watch {
    fn new(url: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = Options { connections_max: 1, ..Options::default() };
        let catalog = runtime.block_on(Catalog::open(url, options))?;
        let (shards, gaps, changing) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { runtime, catalog, shards, gaps, changing, rested: Duration::ZERO })
    }

    /// The longest that any shard rests between two commits of one holder, on this machine now.
    fn pace(&mut self) -> anyhow::Result<Duration> {
        self.rested = Duration::ZERO;
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            self.look()?;
        }
        Ok(self.rested)
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let rows = self.runtime.block_on(self.catalog.fetch_all(&OFFSETS, args![]))?;
        let now = Instant::now();
        for row in &rows {
            let (shard, pos, epoch) = (row.get("shard")?, row.get("pos")?, row.get("epoch")?);
            let seen = self.shards.entry(shard).or_insert(Seen { pos, epoch, rose: now });
            if epoch > seen.epoch {
                self.changing.entry(shard).or_insert(seen.rose);
                seen.epoch = epoch;
            }
            if pos > seen.pos {
                if let Some(last) = self.changing.remove(&shard) {
                    self.gaps.insert(shard, now - last);
                } else {
                    self.rested = self.rested.max(now - seen.rose);
                }
                (seen.pos, seen.rose) = (pos, now);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
        Ok(())
    }

    /// Until every shard has moved since `from`.
    fn until_all_move(&mut self, what: &str) -> anyhow::Result<()> {
        let from = Instant::now();
        wait_for(what, SOON, || {
            self.look()?;
            let moved = self.shards.values().filter(|seen| seen.rose > from).count();
            Ok((moved == 64).then_some(()))
        })
    }

    /// Until as many shards have changed hands and moved on.
    fn changed(&mut self, what: &str, shards: usize) -> anyhow::Result<Vec<Duration>> {
        let waited = wait_for(what, SOON, || {
            self.look()?;
            Ok((self.gaps.len() >= shards && self.changing.is_empty()).then_some(()))
        });
        waited.with_context(|| format!("{:?} {:?}", self.gaps, self.changing))?;
        let mut gaps: Vec<Duration> = std::mem::take(&mut self.gaps).into_values().collect();
        gaps.sort_unstable();
        Ok(gaps)
    }
}

/// Looks at the waves of all hunts, over and over: each recruits once a second.
struct Waves {
    runtime: tokio::runtime::Runtime,
    catalog: Catalog,
    /// By hunt: its last wave, and when it came.
    hunts: BTreeMap<i64, (i64, Instant)>,
    /// By hunt: the longest between two waves.
    gaps: BTreeMap<i64, Duration>,
}

impl Waves {
    fn new(url: &str) -> anyhow::Result<Self> {
        let Watch { runtime, catalog, .. } = Watch::new(url)?;
        Ok(Self { runtime, catalog, hunts: BTreeMap::new(), gaps: BTreeMap::new() })
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let rows = self.runtime.block_on(self.catalog.fetch_all(&WAVES, args![]))?;
        let now = Instant::now();
        for row in &rows {
            let (no, wave) = (row.get("no")?, row.get("wave")?);
            let (last, at) = self.hunts.entry(no).or_insert((wave, now));
            if wave > *last {
                let longest = self.gaps.entry(no).or_default();
                *longest = (*longest).max(now - *at);
                (*last, *at) = (wave, now);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
        Ok(())
    }

    /// The longest that each of these hunts stood still, from now until all have had three waves more.
    fn after(&mut self, what: &str, hunts: usize) -> anyhow::Result<Vec<Duration>> {
        self.gaps.clear();
        let before: BTreeMap<i64, i64> = self.hunts.iter().map(|(no, (w, _))| (*no, *w)).collect();
        wait_for(what, SOON, || {
            self.look()?;
            let on = |(no, (wave, _)): &(&i64, &(i64, Instant))| {
                before.get(no).is_some_and(|before| *wave >= before + 3)
            };
            Ok((self.hunts.iter().filter(on).count() >= hunts).then_some(()))
        })?;
        let mut gaps: Vec<Duration> = self.gaps.values().copied().collect();
        gaps.sort_unstable();
        Ok(gaps)
    }
}

/// Prints and bounds what a change of hands cost.
fn report(what: &str, gaps: &[Duration], allowed: Duration) -> anyhow::Result<()> {
    let (middle, last) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!(
        "{what}: {} shards, from the last rows of the old holder to the first of the new: \
         median {:.2} s, longest {:.2} s (allowed {:.2} s)",
        gaps.len(),
        middle.as_secs_f64(),
        last.as_secs_f64(),
        allowed.as_secs_f64()
    );
    ensure!(last < allowed, "{what} took {last:?}");
    Ok(())
}

/// 256 hosts that log every second: each shard has rows at any time.
fn logging(cluster: &Cluster) -> anyhow::Result<OsqueryFleet> {
    let args = "--start 1 --distributed-interval 20 --config-interval 20 --log-interval 1 --lines 2 \
                --large 0 --packages 5 --drain 60 --hosts 256";
    let args: Vec<&str> = args.split_whitespace().collect();
    let mut fleet = OsqueryFleet::spawn(cluster.osquery_agents(&args)?)?;
    fleet.wait("logs to come", |report| report["lines_taken"].as_u64() > Some(1000))?;
    Ok(fleet)
}

#[test]
fn shards_change_hands_when_a_worker_joins_leaves_and_dies() -> anyhow::Result<()> {
    let ground = Ground::lay()?;
    let worker = || InstanceOptions::roles("worker");
    let front = InstanceOptions::roles("frontend,api,scheduler");
    let options = ClusterOptions::new(ground.stores.clone())
        .with(vec![front, worker(), worker(), worker()])
        .env("MUSTER_LOG__LEVEL", "warn");
    let mut cluster = Cluster::build(&options)?;
    for instance in &cluster.instances()[..3] {
        instance.start()?;
    }
    cluster.sign_in()?;
    let fleet = logging(&cluster)?;
    let mut watch = Watch::new(&ground.catalog)?;
    watch.until_all_move("rows in every shard")?;
    watch.gaps.clear();

    // What is promised is beside the pace of the shards as this machine keeps it now.
    let pace = watch.pace()?;
    println!("nothing happens: a shard rests for {:.2} s at most", pace.as_secs_f64());
    let launched = Instant::now();
    cluster.instance(3).launch()?;
    let gaps = watch.changed("the newcomer's first rows", 21)?;
    println!(
        "a worker joins: its share is all at work {:.2} s after its start",
        launched.elapsed().as_secs_f64()
    );
    report("a worker joins", &gaps, pace + Duration::from_secs(10))?;
    watch.until_all_move("rows in every shard")?;

    // What a leave took, and what it may take.
    let leave = |watch: &mut Watch| -> anyhow::Result<(Vec<Duration>, Duration)> {
        let allowed = watch.pace()? + Duration::from_secs(2);
        // The signal, and no wait: the process is still ending while others take over.
        cluster.instance(3).signal(rustix::process::Signal::TERM)?;
        let told = Instant::now();
        let gaps = watch.changed("the leaver's shards to go on", 21)?;
        println!(
            "a worker leaves: its share is all at work {:.2} s after the signal",
            told.elapsed().as_secs_f64()
        );
        Ok((gaps, allowed))
    };
    // Other tests have the processors too: of three leaves one counts, and what is always there shows.
    let (mut left, mut allowed) = leave(&mut watch)?;
    for _ in 0..2 {
        if left.last() < Some(&allowed) {
            break;
        }
        println!("a worker left within {:?} (allowed {allowed:?}); once more", left.last());
        wait_for("it to end", SOON, || cluster.instance(3).ended())?;
        cluster.instance(3).launch()?;
        watch.changed("its first rows again", 21)?;
        watch.until_all_move("rows in every shard")?;
        (left, allowed) = leave(&mut watch)?;
    }
    report("a worker leaves", &left, allowed)?;
    watch.until_all_move("rows in every shard")?;

    cluster.instance(2).kill();
    let gaps = watch.changed("the dead one's shards to go on", 30)?;
    report("a worker dies", &gaps, pace + Duration::from_secs(20))?;
    let told = cluster.instance(0).list(&["instances"])?;
    let state = |name: usize| {
        let states = told.iter().filter(|one| one["alive"] == false);
        states.filter(|one| one["state"] == ["gone", "left"][name]).count()
    };
    ensure!((state(0), state(1)) == (1, 1), "{told:?}");
    drop(fleet);
    Ok(())
}

#[test]
fn hunts_change_hands_when_a_scheduler_joins_leaves_and_dies() -> anyhow::Result<()> {
    const HUNTS: usize = 24;
    let ground = Ground::lay()?;
    let scheduler = || InstanceOptions::roles("scheduler");
    let front = InstanceOptions::roles("frontend,api,worker");
    let options = ClusterOptions::new(ground.stores.clone())
        .with(vec![front, scheduler(), scheduler(), scheduler()])
        .env("MUSTER_LOG__LEVEL", "warn");
    let mut cluster = Cluster::build(&options)?;
    for instance in &cluster.instances()[..3] {
        instance.start()?;
    }
    cluster.sign_in()?;
    // As many endpoints as seconds the test may take: each hunt recruits one a second.
    let mut fleet =
        Fleet::spawn(cluster.native_agents(&["--endpoints", "240", "--canned", "1"])?)?;
    fleet.up(240, 240)?;
    for _ in 0..HUNTS {
        let paced = ["--sql", "SELECT pid FROM processes", "--canary", "0", "--rate", "1"];
        cluster.instance(0).hunt(&paced)?;
    }
    let mut waves = Waves::new(&ground.catalog)?;
    waves.look()?;
    let steady = waves.after("waves of all hunts", HUNTS)?;
    let steady = steady[HUNTS - 1];
    println!("nothing happens: longest between two waves {:.2} s", steady.as_secs_f64());

    // What is promised is beside the pace of the hunts as this machine keeps it now.
    let report = |what: &str,
                  pace: Duration,
                  gaps: &[Duration],
                  promised: u64|
     -> anyhow::Result<()> {
        let (middle, last) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        let allowed = pace + Duration::from_secs(promised);
        println!(
            "{what}: longest between two waves of a hunt, over {} hunts: median {:.2} s, longest {:.2} s \
             (allowed {:.2} s)",
            gaps.len(),
            middle.as_secs_f64(),
            last.as_secs_f64(),
            allowed.as_secs_f64()
        );
        ensure!(last < allowed, "{what} took {last:?}");
        Ok(())
    };
    let shared = |waves: &mut Waves| -> anyhow::Result<Option<()>> {
        waves.look()?;
        let told = cluster.instance(0).list(&["instances"])?;
        let held = |one: &serde_json::Value| {
            let leases = one["leases"].as_array().cloned().unwrap_or_default();
            leases.iter().any(|lease| lease["job"] == "dispatch" && lease["partitions"] != 0)
        };
        Ok((told.iter().filter(|one| held(one)).count() == 3).then_some(()))
    };
    let leave = |waves: &mut Waves| -> anyhow::Result<(Duration, Vec<Duration>)> {
        let pace = waves.after("waves of all hunts", HUNTS)?;
        cluster.instance(3).signal(rustix::process::Signal::TERM)?;
        Ok((pace[HUNTS - 1], waves.after("the leaver's hunts to go on", HUNTS)?))
    };
    cluster.instance(3).launch()?;
    wait_for("the newcomer to have its share", SOON, || shared(&mut waves))?;
    let before = waves.gaps.values().copied().max().unwrap_or_default();
    let mut joined = waves.after("the newcomer's hunts to go on", HUNTS)?;
    joined[HUNTS - 1] = joined[HUNTS - 1].max(before);
    report("a scheduler joins", steady, &joined, 10)?;

    // Other tests have the processors too: of three leaves one counts, and what is always there shows.
    let (mut pace, mut left) = leave(&mut waves)?;
    for _ in 0..2 {
        if left[HUNTS - 1] < pace + Duration::from_secs(2) {
            break;
        }
        println!("a scheduler left within {:?} (its pace: {pace:?}); once more", left[HUNTS - 1]);
        wait_for("it to end", SOON, || cluster.instance(3).ended())?;
        cluster.instance(3).launch()?;
        wait_for("it to have its share again", SOON, || shared(&mut waves))?;
        (pace, left) = leave(&mut waves)?;
    }
    report("a scheduler leaves", pace, &left, 2)?;
    cluster.instance(2).kill();
    report("a scheduler dies", pace, &waves.after("the dead one's hunts to go on", HUNTS)?, 20)?;
    drop(fleet);
    Ok(())
}

#[test]
fn a_drained_instance_moves_its_agents_and_loses_nothing() -> anyhow::Result<()> {
    const AGENTS: u64 = 120;
    const ROWS: u64 = 25;
    let ground = Ground::lay()?;
    let options = ClusterOptions::new(ground.stores)
        .extra("drain: {delay: 4s, spread: 12s, time: 40s}")
        .env("MUSTER_LOG__LEVEL", "warn");
    let cluster = Cluster::start(&options)?;
    let (agents, rows) = (AGENTS.to_string(), ROWS.to_string());
    let fleet = cluster.native_agents(&["--endpoints", &agents, "--canned", &rows])?;
    let mut fleet = Fleet::spawn(fleet)?;
    fleet.up(AGENTS, AGENTS)?;
    let [first, second] = [0, 1].map(|index| cluster.instance(index));
    let linked = |index: usize| cluster.instance(index).metric("muster_gateway_sessions");
    let here = linked(0)?;
    ensure!(here >= 10.0 && linked(1)? >= 10.0, "agents are on both");
    wait_for("everybody to be seen", SOON, || {
        let agents = second.list(&["agents"])?;
        let online = agents.iter().filter(|agent| agent["online"] == true).count() as u64;
        Ok((online == AGENTS).then_some(()))
    })?;
    let paced = ["--sql", "SELECT pid FROM processes", "--canary", "0", "--rate", "15"];
    let hunt = second.hunt(&paced)?;
    second.covered(hunt, "the first rows", |c| c.get("rows") > 0)?;

    first.signal(rustix::process::Signal::TERM)?;
    let began = Instant::now();
    // While it says that it goes it still accepts; then its agents leave one after the other.
    let mut left = Vec::new();
    let mut unready_while_accepting = false;
    let ended = wait_for("the drained instance to end", SOON, || {
        let accepts = std::net::TcpStream::connect(first.addresses()[1]).is_ok();
        unready_while_accepting |= accepts && !first.is_ready();
        if let Ok(linked) = linked(0) {
            left.push((began.elapsed(), linked));
        }
        std::thread::sleep(Duration::from_millis(50));
        first.ended()
    })?;
    let took = began.elapsed();
    ensure!(ended.success(), "{ended}: {}", first.log());
    ensure!(unready_while_accepting, "it closed its door before it said so");
    let at =
        |share: f64| left.iter().find(|(_, linked)| *linked <= here * share).map(|(at, _)| *at);
    let (begun, half, gone) = (at(0.9), at(0.5), at(0.0));
    println!(
        "{here} agents moved: a tenth had gone after {begun:?}, half after {half:?}, all after {gone:?}; \
         ended after {took:?}"
    );
    let (begun, half) = (begun.context("nobody left")?, half.context("half never left")?);
    // One each 0.1 s, as they are few: between the first tenth and the half there are four tenths of them.
    let spread = Duration::from_millis(100).mul_f64(here * 0.4);
    ensure!(half > begun + spread / 3, "they left as a herd");
    ensure!(took < Duration::from_secs(45), "the drain was not bounded: {took:?}");
    fleet.up(AGENTS, AGENTS)?;
    ensure!(linked(1)? >= AGENTS as f64, "agents are on the other one");
    let all = second.covered(hunt, "all answers", |c| c.is_complete(AGENTS))?;
    ensure!(all.sums() && all.get("row_count") == AGENTS * ROWS, "{all:?}");
    ensure!(fleet.acked(hunt, AGENTS)? == AGENTS * ROWS, "rows were acknowledged twice");
    Ok(())
}

#[test]
fn a_second_signal_ends_at_once() -> anyhow::Result<()> {
    let ground = Ground::lay()?;
    let options = ClusterOptions::new(ground.stores)
        .instances(1)
        .extra("drain: {delay: 20s, spread: 1s, time: 30s}");
    let cluster = Cluster::start(&options)?;
    let one = cluster.instance(0);
    one.signal(rustix::process::Signal::TERM)?;
    wait_for("it to say that it goes", SOON, || Ok((!one.is_ready()).then_some(())))?;
    let began = Instant::now();
    one.signal(rustix::process::Signal::TERM)?;
    wait_for("it to end", SOON, || one.ended())?;
    ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    Ok(())
}
