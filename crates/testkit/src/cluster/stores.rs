//! Which stores a cluster uses, and how instances reach them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Context;

use crate::{Nats, Postgres, S3};

/// What the configuration says of the four planes, and which of it goes over TCP.
///
/// The stores themselves belong to the test.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    keys: Vec<(String, String, String)>,
    pub(super) doors: Vec<Door>,
    pub(super) env: Vec<(String, String)>,
}

/// A store's TCP port.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

impl Stores {
    /// A new database on PostgreSQL (`catalog`), NATS for stream and bus (`nats`, of a cluster `nats-0`
    /// and so on), and objects in S3 (`archive`): doors by these names.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn scaled(catalog: &Postgres, nats: &Nats, archive: &S3) -> anyhow::Result<Self> {
        let mut stores = Self::default()
            .key("catalog", "url", &catalog.tcp_database()?)
            .door("catalog", catalog.port())
            .key("stream", "url", &nats.url())
            .key("nats", "replicas", if nats.node_count() > 1 { "3" } else { "1" })
            .key("archive", "url", &archive.url("cluster"))
            .key("archive.s3", "endpoint", &archive.endpoint())
            .key("archive.s3", "allow_http", "true")
            .door("archive", port(&archive.address())?)
            .env("AWS_ACCESS_KEY_ID", S3::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", S3::SECRET_KEY);
        for node in 0..nats.node_count() {
            let name = if nats.node_count() > 1 { format!("nats-{node}") } else { "nats".into() };
            stores = stores.door(&name, port(&nats.url_of(node))?);
        }
        Ok(stores)
    }

    /// Names a server that takes over from the catalog's, as a door.
    #[must_use]
    pub fn standby(mut self, name: &str, standby: &Postgres) -> Self {
        let first = self.doors.iter().find(|door| door.name == "catalog");
        let first = first.map(|door| door.address.to_string()).unwrap_or_default();
        let both = format!("{first},{}", standby.address());
        for (section, key, value) in &mut self.keys {
            if (section.as_str(), key.as_str()) == ("catalog", "url") {
                *value = value.replace(&first, &both);
            }
        }
        self.door(name, standby.port())
    }

    /// A key of the configuration: `catalog`, `url`, `postgres://…`.
    #[must_use]
    pub fn key(mut self, section: &str, key: &str, value: &str) -> Self {
        self.keys.push((section.to_owned(), key.to_owned(), value.to_owned()));
        self
    }

    /// A store that listens here and can be taken away from an instance by this name. Values of keys
    /// hold its address as `127.0.0.1:PORT`.
    #[must_use]
    pub fn door(mut self, name: &str, port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        self.doors.push(Door { name: name.to_owned(), address });
        self
    }

    /// Environment of all instances, such as credentials.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Names of the stores that can be taken away.
    #[must_use]
    pub fn doors(&self) -> Vec<&str> {
        self.doors.iter().map(|door| door.name.as_str()).collect()
    }

    /// Sections of the configuration file. A section may be a path: `archive.s3`.
    pub(super) fn yaml(&self) -> String {
        let mut sections: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
        for (section, key, value) in &self.keys {
            let value = match value.as_str() {
                "true" | "false" => value.clone(),
                number if number.parse::<u64>().is_ok() => value.clone(),
                text => format!("'{text}'"),
            };
            let (outer, inner) = section.split_once('.').unwrap_or((section, ""));
            let keys = sections.entry(outer).or_default().entry(inner).or_default();
            keys.push(format!("{key}: {value}"));
        }
        let mut text = String::new();
        for (section, parts) in sections {
            let part = |(inner, keys): (&str, Vec<String>)| match inner {
                "" => keys.join(", "),
                inner => format!("{inner}: {{{}}}", keys.join(", ")),
            };
            let parts: Vec<String> = parts.into_iter().map(part).collect();
            let _ = writeln!(text, "{section}: {{{}}}", parts.join(", "));
        }
        text
    }

    /// Environment that leads an instance to the stores through its own wires.
    pub(super) fn through(
        &self,
        wire: impl Fn(&str) -> Option<SocketAddr>,
    ) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for (section, key, value) in &self.keys {
            let mut changed = value.clone();
            for door in &self.doors {
                if let Some(address) = wire(&door.name) {
                    changed = changed.replace(&door.address.to_string(), &address.to_string());
                }
            }
            if changed != *value {
                let name = format!("MUSTER_{}__{key}", section.replace('.', "__"));
                env.push((name.to_uppercase(), changed));
            }
        }
        env
    }
}

fn port(address: &str) -> anyhow::Result<u16> {
    let (_, port) = address.rsplit_once(':').context("an address has a port")?;
    port.parse().context("an address has a port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_and_a_way_of_each_instance_to_the_stores() {
        let stores = Stores::default()
            .key("catalog", "url", "postgres://postgres@127.0.0.1:15000/test")
            .key("archive", "url", "s3://bucket")
            .key("archive.s3", "allow_http", "true")
            .key("archive.s3", "endpoint", "http://127.0.0.1:9000")
            .door("catalog", 15_000);
        assert_eq!(
            stores.yaml(),
            "archive: {url: 's3://bucket', s3: {allow_http: true, endpoint: 'http://127.0.0.1:9000'}}\n\
             catalog: {url: 'postgres://postgres@127.0.0.1:15000/test'}\n"
        );
        let wire = SocketAddr::from(([10, 1, 2, 3], 4));
        assert_eq!(
            stores.through(|door| (door == "catalog").then_some(wire)),
            [("MUSTER_CATALOG__URL".to_owned(), "postgres://postgres@10.1.2.3:4/test".to_owned())]
        );
    }
}
