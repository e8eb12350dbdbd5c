//! Each fault of a report gives its finding, and a healthy one none.

use muster_cluster::{InstanceInfo, Roles};
use muster_types::{Incarnation, InstanceId};
use uuid::Uuid;

use super::*;
use crate::report::Volume;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

fn instance(n: u128, name: &str, version: &str) -> Instance {
    Instance {
        info: InstanceInfo {
            id: InstanceId(Uuid::from_u128(n)),
            name: name.into(),
            roles: Roles::ALL,
            version: version.into(),
            level: 1,
            addresses: Vec::new(),
            facts: Default::default(),
        },
        incarnation: Incarnation(1),
        started_at: NOW.minus(Duration::from_secs(3600)),
        heartbeat_at: NOW,
        live: true,
        left: false,
        load: Default::default(),
    }
}

fn healthy() -> Facts {
    let configuration = [("retention.collected".to_owned(), "365days".to_owned())];
    Facts {
        open_files_max: 1 << 20,
        configuration: configuration.into(),
        secret_key_fits: Some(true),
        certificates: vec![Certificate {
            listener: "agents".into(),
            names: vec!["h".into()],
            not_after: NOW.seconds() + 90 * 86_400,
        }],
        volumes: vec![Volume {
            holds: "stream".into(),
            path: "/d".into(),
            free_bytes: 10,
            reserve_bytes: 5,
        }],
        ..Facts::default()
    }
}

fn found(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut changed = healthy();
    change(&mut changed);
    let live = [instance(1, "a", "1"), instance(2, "b", "1")];
    let report = |n, facts| Report { instance: InstanceId(Uuid::from_u128(n)), at: NOW, facts };
    let findings = judge(&live, &[report(1, healthy()), report(2, changed)], NOW);
    findings.into_iter().map(|finding| finding.id).collect()
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    assert_eq!(found(|_| {}), Vec::<String>::new());
}

#[test]
fn each_fault_has_its_name() {
    assert_eq!(found(|f| f.clock_ahead_ms = -6000), [id::CLOCK]);
    assert_eq!(found(|f| f.open_files_max = 1024), [id::OPEN_FILES]);
    assert_eq!(
        found(|f| f.certificates[0].not_after = NOW.seconds() - 9),
        [id::CERTIFICATE_EXPIRY]
    );
    assert_eq!(
        found(|f| f.certificates[0].not_after = NOW.seconds() + 86_400),
        [id::CERTIFICATE_EXPIRY]
    );
    assert_eq!(found(|f| f.volumes[0].free_bytes = 4), [id::DISK]);
    assert_eq!(found(|f| f.stream_stopped = true), [id::STREAM_STOPPED]);
    assert_eq!(found(|f| f.secret_key_fits = Some(false)), [id::SECRET_KEY]);
    assert_eq!(found(|f| f.worker_lag_ms = 61_000), [id::SHARD_LAG]);
    assert_eq!(found(|f| f.shards_standing_still = 1), [id::SHARD_GAP]);
    let drift = |f: &mut Facts| drop(f.configuration.insert("sql.rows".into(), "1".into()));
    assert_eq!(found(drift), Vec::<String>::new(), "a key that only one has is a newer version's");
    let drift =
        |f: &mut Facts| drop(f.configuration.insert("retention.collected".into(), "1day".into()));
    assert_eq!(found(drift), [id::CONFIG_DRIFT]);
}

#[test]
fn who_is_silent_or_alone_is_named() {
    let live = [instance(1, "a", "1"), instance(2, "b", "2")];
    let findings = judge(&live, &[], NOW);
    let ids: Vec<_> = findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, [id::NO_REPORT, id::NO_REPORT, id::VERSION_SPREAD]);
    assert_eq!(judge(&[], &[], NOW)[0].id, id::NO_HOLDER);
    let mut api = instance(1, "a", "1");
    api.info.roles = [muster_cluster::Role::Api].into_iter().collect();
    api.started_at = NOW;
    let findings = judge(&[api], &[], NOW);
    assert!(findings.len() >= 2, "{findings:?}");
    assert!(findings.iter().all(|finding| finding.id == id::NO_HOLDER));
}
