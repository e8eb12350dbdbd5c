//! What the tests of this crate share.

use muster_bus::local::LocalBus;
use muster_catalog::Catalog;
use muster_endpoints::{AgentReport, Directory, Enrol};
use muster_types::{AgentKind, OrgId, Timestamp};

/// Now, in these tests.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

/// A native agent on a machine of its own, without a secret.
pub fn native(n: u32) -> Enrol {
    Enrol {
        org: OrgId::DEFAULT,
        kind: AgentKind::Native,
        external_id: format!("{n:064x}"),
        public_key: Some(vec![7; 32]),
        machine: Some(format!("machine-{n}")),
        report: AgentReport {
            hostname: format!("host-{n}"),
            platform: "linux".into(),
            os_name: "Debian GNU/Linux".into(),
            os_version: "13".into(),
            arch: "x86_64".into(),
            version: "0.1.0".into(),
            capabilities: "sql".into(),
            address: "192.0.2.7".into(),
        },
        secret: None,
    }
}

/// A directory over this catalog.
pub async fn directory(catalog: &Catalog) -> Directory {
    Directory::open(catalog.clone(), LocalBus::new(64)).await.unwrap()
}
