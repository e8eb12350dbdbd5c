//! The stream is away: nothing new is taken from agents, who keep it; everything else goes on.

use std::time::{Duration, Instant};

use muster_testkit::{Nats, wait_for};

use super::{Site, assert_in_time, assert_people_in_time, long, with_nats};
use crate::support::SOON;

#[test]
fn the_stream_does_not_answer() -> anyhow::Result<()> {
    let nats = Nats::start()?;
    let mut site = Site::open(|stores| with_nats(stores, &nats), &[])?;
    assert!(site.osquery.log()?.0);
    let hunt = site.hunt()?;
    nats.pause(0)?;
    let began = Instant::now();
    let (mut agents, mut logs) = (Duration::ZERO, Duration::ZERO);
    let mut asked = Vec::new();
    while began.elapsed() < long() {
        for (what, answer) in site.person.all()? {
            assert!(answer.status < 300 || what == "sql", "{what}: {answer:?}");
            assert_people_in_time(what, answer.took);
            asked.extend(answer.body["no"].as_u64().filter(|_| what != "list"));
        }
        agents = agents.max(site.osquery.check_in()?);
        let (taken, took) = site.osquery.log()?;
        assert!(!taken, "lines are kept by the agent while the stream is away");
        logs = logs.max(took);
    }
    site.native_comes_again()?;
    site.is_alive()?;
    assert_in_time("agents are answered", agents);
    assert_in_time("lines are refused", logs);
    site.shows_its_page()?;
    nats.resume(0)?;
    wait_for("lines to be taken again", SOON, || Ok(site.osquery.log()?.0.then_some(())))?;
    site.hunted(hunt)?;
    // A live query and a hunt of each round.
    assert!(asked.len() >= 2, "{asked:?}");
    for no in asked {
        site.hunted(no)?;
    }
    site.lines_stored()
}
