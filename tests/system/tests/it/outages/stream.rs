//! The stream is away: nothing new is taken from agents, who keep it; everything else goes on.

use std::time::{Duration, Instant};

use muster_testkit::{Nats, wait_for};

use super::{Site, assert_in_time, long, with_nats};
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
    while began.elapsed() < long() {
        for (what, answer) in site.person.all()? {
            assert!(answer.status < 300 || what == "sql", "{what}: {answer:?}");
        }
        agents = agents.max(site.osquery.check_in()?);
        let (taken, took) = site.osquery.log()?;
        assert!(!taken, "lines are kept by the agent while the stream is away");
        logs = logs.max(took);
    }
    site.native_comes_again()?;
    site.is_alive()?;
    assert_in_time("agents are answered", agents);
    println!("lines are refused after at most {logs:?}");
    nats.resume(0)?;
    wait_for("lines to be taken again", SOON, || Ok(site.osquery.log()?.0.then_some(())))?;
    site.hunted(hunt)?;
    site.lines_stored()
}
