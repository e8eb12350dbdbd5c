//! The bus is away: everything goes on, some of it later.

use muster_testkit::Nats;

use super::{Site, with_nats};
use crate::support::Ask as _;

#[test]
fn the_bus_is_stopped() -> anyhow::Result<()> {
    let (stream, mut bus) = (Nats::start()?, Nats::start()?);
    let url = bus.url();
    let more = |stores| with_nats(stores, &stream).key("bus", "url", &url);
    let mut site = Site::open(more, &[])?;
    bus.stop(0)?;
    for (what, answer) in site.person.all()? {
        assert!(answer.status < 300 || what == "sql", "{what}: {answer:?}");
    }
    site.osquery.check_in()?;
    assert!(site.osquery.log()?.0);
    site.native_comes_again()?;
    site.shows_its_page()?;
    let told = site.asked()?;
    assert_eq!(told.code, 0, "{told:?}");
    // Work is found without being told of it.
    let hunt = site.hunt()?;
    site.hunted(hunt)?;
    site.lines_stored()?;
    site.is_alive()?;
    bus.restart(0)?;
    let one = site.cluster.instance(0);
    let again = one.hunt(&["--sql", "SELECT pid FROM processes", "--canary", "0"])?;
    site.hunted(again)
}
