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
pub const CA: &str = "ca/1";

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
        let authority = Self::authority(catalog, key, clock).await?;
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

    /// Reads or makes the CA.
    ///
    /// # Errors
    /// When the catalog is away, or the key is not the one it was sealed with.
    pub async fn authority(
        catalog: &Catalog,
        key: &Key,
        clock: &dyn Clock,
    ) -> anyhow::Result<Authority> {
        let sealed = secrets::get_or_create(catalog, key, CA, || {
            let made = Authority::generate(clock).expect("a key can be generated");
            format!("{}{}", made.certificate_pem, made.key_pem).into_bytes()
        });
        let pem = sealed.await.context("read the CA from the catalog")?;
        let pem = String::from_utf8(pem).context("read the CA from the catalog")?;
        let split =
            pem.find("-----BEGIN PRIVATE KEY").context("the CA in the catalog has no key")?;
        let (certificate, key) = pem.split_at(split);
        Ok(Authority { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() })
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

/// When the first certificate of a PEM text ends, in seconds since 1970, and the names in it.
pub fn not_after(pem: &[u8]) -> Option<(i64, Vec<String>)> {
    use rustls_pki_types::pem::PemObject as _;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem).ok()?;
    not_after_der(&der)
}

/// The same of one in DER.
pub fn not_after_der(der: &[u8]) -> Option<(i64, Vec<String>)> {
    use x509_parser::extensions::GeneralName;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(found)) = certificate.subject_alternative_name() {
        for name in &found.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Some((certificate.validity().not_after.timestamp(), names))
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or_else(|_| v6()).ok().map(|address| address.to_string())
}
