//! The archive is away: rows wait in the stream, and what is stored already cannot be read.

use std::time::Instant;

use anyhow::Context;
use muster_testkit::{Nats, S3};

use super::{Site, assert_away, assert_in_time, assert_people_in_time, long, with_nats};

#[test]
fn the_archive_is_stopped() -> anyhow::Result<()> {
    let (nats, mut s3) = (Nats::start()?, S3::start()?);
    let (url, endpoint) = (s3.url("outage"), s3.endpoint());
    let more = |stores| {
        with_nats(stores, &nats)
            .key("archive", "url", &url)
            .key("archive.s3", "endpoint", &endpoint)
            .key("archive.s3", "allow_http", "true")
            .env("AWS_ACCESS_KEY_ID", S3::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", S3::SECRET_KEY)
    };
    let mut site = Site::open(more, &[])?;
    assert!(site.osquery.log()?.0);
    let hunt = site.hunt()?;
    site.lines_stored()?;
    s3.stop()?;
    let began = Instant::now();
    while began.elapsed() < long() {
        for (what, answer) in site.person.all()? {
            assert!(answer.status < 300 || what == "sql", "{what}: {answer:?}");
            assert_people_in_time(what, answer.took);
        }
        assert_in_time("an agent is answered", site.osquery.check_in()?);
        let (taken, took) = site.osquery.log()?;
        assert!(taken, "lines wait in the stream while the archive is away");
        assert_in_time("lines are taken", took);
    }
    if crate::support::has_sql()? {
        let answer = site.person.sql("SELECT * FROM osquery_other")?;
        assert_away("sql over what is stored", &answer);
        println!("sql over what is stored is refused after {:?}", answer.took);
    }
    site.native_comes_again()?;
    let hunt_begun = site.person.hunt()?;
    let told = site.asked()?;
    assert_eq!(told.code, 4, "the rows are there, and that all are is known later: {told:?}");
    site.shows_its_page()?;
    site.is_alive()?;
    s3.restart()?;
    site.hunted(hunt)?;
    site.hunted(hunt_begun.body["no"].as_u64().context("a number")?)?;
    site.lines_stored()
}
