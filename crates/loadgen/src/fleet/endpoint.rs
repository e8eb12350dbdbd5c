//! One simulated endpoint.

use rand::Rng;

use muster_codec_native::HostFacts;

use super::plant::Plant;
use super::{bytes, rng};

/// An endpoint: a seed, a number, what was planted. Everything else is made when asked for.
#[derive(Clone, Debug)]
pub struct Endpoint {
    seed: u64,
    number: u32,
    plants: Vec<Plant>,
}

impl Endpoint {
    pub(super) fn new(seed: u64, number: u32, plants: Vec<Plant>) -> Self {
        Self { seed, number, plants }
    }

    /// Its number in the fleet.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether it carries a plant.
    #[must_use]
    pub fn carries(&self, plant: Plant) -> bool {
        self.plants.contains(&plant)
    }

    /// A name as machines have them, with the number to tell it apart.
    #[must_use]
    pub fn hostname(&self) -> String {
        const ROLES: [&str; 8] = ["web", "db", "app", "cache", "build", "mail", "files", "ws"];
        const SITES: [&str; 5] = ["fra", "ams", "iad", "sin", "gru"];
        let mut rng = rng(self.seed, "hostname", self.number);
        let role = ROLES[rng.random_range(0..ROLES.len())];
        let site = SITES[rng.random_range(0..SITES.len())];
        format!("{role}-{site}-{:05}", self.number)
    }

    /// 32 hexadecimal digits, as systemd's machine-id.
    #[must_use]
    pub fn machine_id(&self) -> String {
        hex::encode(&bytes(self.seed, "machine", self.number)[..16])
    }

    /// The secret half of its key.
    #[must_use]
    pub fn key_seed(&self) -> [u8; 32] {
        bytes(self.seed, "key", self.number)
    }

    /// Distribution and version: name, version, platform, codename.
    #[must_use]
    pub fn system(&self) -> [&'static str; 4] {
        const SYSTEMS: [[&str; 4]; 5] = [
            ["Debian GNU/Linux", "12 (bookworm)", "debian", "bookworm"],
            ["Ubuntu", "24.04.1 LTS (Noble Numbat)", "ubuntu", "noble"],
            ["Ubuntu", "22.04.5 LTS (Jammy Jellyfish)", "ubuntu", "jammy"],
            ["Rocky Linux", "9.5 (Blue Onyx)", "rocky", ""],
            ["AlmaLinux", "9.5 (Teal Serval)", "almalinux", ""],
        ];
        let mut rng = rng(self.seed, "system", self.number);
        SYSTEMS[rng.random_range(0..SYSTEMS.len())]
    }

    /// Its address in a private network.
    #[must_use]
    pub fn address(&self) -> String {
        let [_, a, b, c] = self.number.to_be_bytes();
        format!("10.{a}.{b}.{c}")
    }

    /// What it says of itself.
    #[must_use]
    pub fn host_facts(&self) -> HostFacts {
        let [name, version, ..] = self.system();
        let tables = super::tables::names();
        HostFacts {
            hostname: self.hostname(),
            platform: "linux".to_owned(),
            os_name: name.to_owned(),
            os_version: version.to_owned(),
            arch: "x86_64".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: tables.iter().map(|name| format!("table:{name}")).collect(),
        }
    }

    pub(super) fn rng(&self, what: &str) -> rand_chacha::ChaCha8Rng {
        rng(self.seed, what, self.number)
    }
}
