//! PostgreSQL is away: agents come, are answered and hand over what they found; people are told at once.

use std::time::{Duration, Instant};

use muster_testkit::{Nats, SkewedClock};

use super::{Site, assert_away, assert_in_time, assert_people_in_time, long, with_nats};

/// Half an hour, by the wall clock of the server.
const HALF_AN_HOUR: i64 = 1800;

/// Everything an outage must not touch, and everything it must tell, for as long as it lasts.
fn during(site: &mut Site, time: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut agents, mut people) = (Duration::ZERO, Duration::ZERO);
    let mut rounds = 0;
    while began.elapsed() < time || rounds < 2 {
        for (what, answer) in site.person.all()? {
            assert_away(what, &answer);
            people = people.max(answer.took);
        }
        agents = agents.max(site.osquery.check_in()?);
        let (taken, took) = site.osquery.log()?;
        assert!(taken, "lines are taken while the catalog is away");
        agents = agents.max(took);
        rounds += 1;
    }
    site.native_comes_again()?;
    site.shows_its_page()?;
    site.is_alive()?;
    assert_people_in_time("people are told", people);
    assert_in_time("agents are answered", agents);
    Ok(())
}

fn afterwards(site: &Site, hunt: u64) -> anyhow::Result<()> {
    println!("answers again after {:?}", site.back()?);
    for (what, answer) in site.person.all()? {
        // Without the SQL engine in the binary that one operation says so.
        assert!(answer.status < 300 || what == "sql", "{what}: {answer:?}");
    }
    site.hunted(hunt)?;
    site.lines_stored()?;
    site.is_alive()
}

#[test]
fn the_catalog_does_not_answer() -> anyhow::Result<()> {
    let nats = Nats::start()?;
    let mut site = Site::open(|stores| with_nats(stores, &nats), &[])?;
    assert!(site.osquery.log()?.0);
    let hunt = site.hunt()?;
    site.postgres.pause()?;
    during(&mut site, long())?;
    site.postgres.resume()?;
    afterwards(&site, hunt)
}

#[test]
fn the_catalog_is_stopped_for_half_an_hour() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let clock = SkewedClock::make(dir.path())?;
    // The embedded log as the stream.
    let mut site = Site::open(|stores| stores, &clock.env())?;
    assert!(site.osquery.log()?.0);
    let hunt = site.hunt()?;
    site.postgres.stop()?;
    during(&mut site, long())?;
    // What is kept in memory may not count as too old to be used.
    clock.jump(HALF_AN_HOUR)?;
    during(&mut site, Duration::ZERO)?;
    clock.jump(0)?;
    site.postgres.restart()?;
    afterwards(&site, hunt)
}
