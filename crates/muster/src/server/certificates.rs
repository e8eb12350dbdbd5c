//! The certificates of one server process: the CA out of the catalog, and leaves that can be swapped.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use muster_catalog::Catalog;
use muster_cluster::secrets::{self, Key};
use muster_types::Clock;
use rustls::ServerConfig;

use super::ca::Authority;
use super::{names, tls};
use crate::config::Config;

/// Name of the CA in the catalog's secrets: certificate and key, PEM one after the other.
const CA: &str = "ca/1";

/// CA and leaves, as the listeners use them.
pub struct Certificates {
    authority: Authority,
    /// SHA-256 of the CA's certificate, for people to compare.
    pub fingerprint: String,
    /// Names in the leaf.
    pub names: ArcSwap<Vec<String>>,
    /// Of the operators' listener.
    pub operators: Arc<ArcSwap<ServerConfig>>,
    /// Of the agents' listener.
    pub agents: Arc<ArcSwap<ServerConfig>>,
}

/// The file with the key that seals secrets.
pub fn secret_key_file(config: &Config) -> PathBuf {
    let own = || config.data_dir.join("secret.key");
    config.tls.secret_key_file.clone().unwrap_or_else(own)
}

impl Certificates {
    /// Reads or makes the CA, and issues the leaves for this machine.
    pub async fn open(
        config: &Config,
        catalog: &Catalog,
        key: &Key,
        clock: &dyn Clock,
    ) -> anyhow::Result<Self> {
        let sealed = secrets::get_or_create(catalog, key, CA, || {
            let made = Authority::generate(clock).expect("a key can be generated");
            format!("{}{}", made.certificate_pem, made.key_pem).into_bytes()
        });
        let pem = sealed.await.context("read the CA from the catalog")?;
        let pem = String::from_utf8(pem).context("read the CA from the catalog")?;
        let split =
            pem.find("-----BEGIN PRIVATE KEY").context("the CA in the catalog has no key")?;
        let (certificate, key) = pem.split_at(split);
        let authority =
            Authority { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() };
        let names = names::machine_names(&config.names, &names::addresses());
        let leaf = authority.issue(&names, clock)?;
        Ok(Self {
            fingerprint: authority.fingerprint()?,
            names: ArcSwap::from_pointee(names),
            operators: Arc::new(ArcSwap::new(tls::for_operators(config, &leaf)?)),
            agents: Arc::new(ArcSwap::new(tls::for_agents(config, &leaf)?)),
            authority,
        })
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.authority.certificate_pem
    }

    /// Issues new leaves for the names the machine has now, and reads own certificates again.
    ///
    /// # Errors
    /// When one cannot be had; the old ones stay in use.
    pub fn renew(&self, config: &Config, clock: &dyn Clock) -> anyhow::Result<()> {
        let names = names::machine_names(&config.names, &names::addresses());
        let leaf = self.authority.issue(&names, clock)?;
        let operators = tls::for_operators(config, &leaf)?;
        let agents = tls::for_agents(config, &leaf)?;
        self.operators.store(operators);
        self.agents.store(agents);
        self.names.store(Arc::new(names));
        Ok(())
    }
}
