//! A directory of 100,000 agents: exactness here, the time when run by hand.
//!
//! `cargo test --release -p muster-endpoints --test load -- --ignored --nocapture`

mod common;

use std::time::Instant;

use common::{NOW, directory, native};
use muster_catalog::{Catalog, Priority, args};
use muster_testkit::TempCatalog;
use muster_types::{OrgId, ScopeSpec};

muster_catalog::statements! {
    ENDPOINTS = "INSERT INTO endpoint (no, org, name, machine, created_at, deleted_at, change)
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $1)
        SELECT n, 1, 'host-' || n || '.example.com', 'machine-' || n, $2, NULL, $3 FROM n";
    AGENTS = "INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, public_key, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, enrol_secret_no,
             key_issued_at, last_seen, last_address, clone_of, deleted_at, change)
        SELECT no, 1, no, 'native', no || '-0123456789abcdef0123456789abcdef', $1, 'active', name, 'linux',
            'Debian GNU/Linux', CAST(10 + no % 4 AS TEXT), 'x86_64', '0.1.0', 'sql', $2, '', NULL, $2,
            $2, '10.' || (no % 256) || '.' || (no / 256 % 256) || '.7', NULL, NULL, $3
        FROM endpoint";
}

async fn fleet(catalog: &Catalog, size: u32) {
    let mut tx = catalog.begin(Priority::Api).await.unwrap();
    let change = tx.bump("directory").await.unwrap();
    tx.execute(&ENDPOINTS, args![size, NOW, change]).await.unwrap();
    tx.execute(&AGENTS, args![vec![7_u8; 65], NOW, change]).await.unwrap();
    tx.bump_by("number/agent", size.into()).await.unwrap();
    tx.bump_by("number/endpoint", size.into()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_one_among_many_reads_one() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 2_000).await;
    let directory = directory(&temp.catalog).await;
    let before = directory.snapshot();
    assert_eq!(before.agent_count(), 2_000);
    muster_endpoints::enrol(&temp.catalog, &native(9), NOW).await.unwrap();
    let after = directory.refresh().await.unwrap();
    assert_eq!((before.agent_count(), after.agent_count()), (2_000, 2_001));
    assert_eq!(after.endpoints(OrgId::DEFAULT).count(), 2_001);
}

#[tokio::test]
async fn many_that_look_at_once_share_looks_and_each_sees_what_was_committed_before_it_came() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 10).await;
    let directory = directory(&temp.catalog).await;
    let before = temp.catalog.calls();
    directory.refresh().await.unwrap();
    let nothing_new = temp.catalog.calls() - before;
    muster_endpoints::enrol(&temp.catalog, &native(11), NOW).await.unwrap();
    let before = temp.catalog.calls();
    let looks = (0..200).map(|_| {
        let directory = directory.clone();
        tokio::spawn(async move { directory.refresh().await.unwrap().agent_count() })
    });
    for look in looks.collect::<Vec<_>>() {
        assert_eq!(look.await.unwrap(), 11);
    }
    let calls = temp.catalog.calls() - before;
    assert!(calls <= 8 * nothing_new.max(1), "{calls} calls, {nothing_new} of a look in vain");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure() {
    let temp = TempCatalog::sqlite().await.unwrap();
    fleet(&temp.catalog, 100_000).await;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    for _ in 0..3 {
        let started = Instant::now();
        let loaded = directory(&temp.catalog).await;
        let elapsed = started.elapsed();
        assert_eq!(loaded.snapshot().agent_count(), 100_000);
        println!("load: {elapsed:?}, {} KiB more resident", resident() - before);
    }
    let directory = directory(&temp.catalog).await;
    let snapshot = directory.snapshot();
    let presence = muster_endpoints::Presence::new(
        muster_types::InstanceId(uuid::Uuid::nil()),
        std::sync::Arc::new(muster_types::TestClock::new(NOW)),
    );
    let spec = ScopeSpec {
        condition: Some("os_version = '12' AND hostname LIKE '%9%' AND NOT online".into()),
        ..ScopeSpec::all()
    };
    let started = Instant::now();
    let found = snapshot.resolve(OrgId::DEFAULT, &spec, &presence).unwrap().endpoints.len();
    println!("condition over 100,000: {:?}, {found} found", started.elapsed());
    let started = Instant::now();
    muster_endpoints::enrol(&temp.catalog, &native(9), NOW).await.unwrap();
    let enrolled = started.elapsed();
    let started = Instant::now();
    directory.refresh().await.unwrap();
    println!("enrol one: {enrolled:?}, refresh: {:?}", started.elapsed());
}
