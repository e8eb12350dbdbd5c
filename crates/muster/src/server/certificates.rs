//! The certificates of one server process: the CAs out of the catalog, and leaves that can be swapped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use muster_authority::Authorities;
use muster_catalog::Catalog;
use muster_cluster::secrets::Key;
use muster_gateway_native::ServerCas;
use muster_types::Clock;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{names, tls};
use crate::config::Config;

/// How often it is looked whether the CAs have changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// CAs and leaves, as the listeners use them.
pub struct Certificates {
    /// As it was read last.
    config: ArcSwap<Config>,
    authorities: watch::Sender<Arc<Authorities>>,
    /// From reading what a leaf is issued by until it is in use: an older one never goes over a newer.
    changing: Mutex<()>,
    /// What agents are told of the CAs.
    pub told: Arc<ArcSwap<ServerCas>>,
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
    /// Reads or makes the CAs, and issues the leaves for this machine.
    pub async fn open(
        config: &Config,
        catalog: &Catalog,
        key: &Key,
        clock: &dyn Clock,
    ) -> anyhow::Result<Self> {
        let authorities = Authorities::open(catalog, key, clock).await;
        let authorities = authorities.context("read the CA from the catalog")?;
        let names = names::machine_names(&config.names, &names::addresses());
        let leaf = authorities.signing().authority.issue(&names, clock)?;
        Ok(Self {
            config: ArcSwap::from_pointee(config.clone()),
            told: Arc::new(ArcSwap::from_pointee(told(&authorities))),
            names: ArcSwap::from_pointee(names),
            operators: Arc::new(ArcSwap::new(tls::for_operators(config, &leaf)?)),
            agents: Arc::new(ArcSwap::new(tls::for_agents(config, &leaf)?)),
            authorities: watch::Sender::new(Arc::new(authorities)),
            changing: Mutex::new(()),
        })
    }

    /// The CAs, and a way to learn that they are others.
    pub fn authorities(&self) -> watch::Receiver<Arc<Authorities>> {
        self.authorities.subscribe()
    }

    /// The certificate of the CA that signs, then those of the others that are trusted.
    pub fn ca_pem(&self) -> String {
        self.told.load().pem.clone()
    }

    /// SHA-256 of the certificate of the CA that signs, for people to compare.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn fingerprint(&self) -> anyhow::Result<String> {
        Ok(self.authorities.borrow().signing().authority.fingerprint()?)
    }

    /// Issues new leaves for the names the machine has now, and reads own certificates again.
    ///
    /// # Errors
    /// When one cannot be had; the old ones stay in use.
    pub fn renew(&self, clock: &dyn Clock) -> anyhow::Result<()> {
        let _one = self.changing.lock();
        let authorities = self.authorities.borrow().clone();
        self.issue(&authorities, &self.config.load(), clock)
    }

    /// The same by another configuration, which counts from then on.
    ///
    /// # Errors
    /// As [`Certificates::renew`]; the configuration stays as it was too.
    pub fn reload(&self, config: Config, clock: &dyn Clock) -> anyhow::Result<()> {
        let _one = self.changing.lock();
        let authorities = self.authorities.borrow().clone();
        self.issue(&authorities, &config, clock)?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    fn issue(
        &self,
        authorities: &Authorities,
        config: &Config,
        clock: &dyn Clock,
    ) -> anyhow::Result<()> {
        let names = names::machine_names(&config.names, &names::addresses());
        let leaf = authorities.signing().authority.issue(&names, clock)?;
        let operators = tls::for_operators(config, &leaf)?;
        let agents = tls::for_agents(config, &leaf)?;
        self.operators.store(operators);
        self.agents.store(agents);
        self.names.store(Arc::new(names));
        Ok(())
    }

    /// Follows the CAs until `shutdown`: they may be changed through another instance.
    pub async fn follow(
        &self,
        catalog: &Catalog,
        key: &Key,
        clock: &dyn Clock,
        shutdown: &CancellationToken,
    ) {
        loop {
            let wait = tokio::time::sleep(LOOK_EVERY);
            if shutdown.run_until_cancelled(wait).await.is_none() {
                return;
            }
            match Authorities::open(catalog, key, clock).await {
                Ok(now) => self.adopt(now, clock),
                Err(error) => tracing::warn!(%error, "the CAs could not be read again"),
            }
        }
    }

    fn adopt(&self, now: Authorities, clock: &dyn Clock) {
        let news = told(&now);
        let _one = self.changing.lock();
        let before = self.told.load();
        if **before == news {
            return;
        }
        if before.signing != news.signing
            && let Err(error) = self.issue(&now, &self.config.load(), clock)
        {
            // Looked at again in a moment.
            tracing::error!("the CAs have changed, and certificates stay as they are: {error:#}");
            return;
        }
        tracing::info!(signing = news.signing, trusted = ?news.trusted, "the CAs have changed");
        // After the leaf: a link that is told of a retired CA must have come about by the new leaf.
        self.told.store(Arc::new(news));
        self.authorities.send_replace(Arc::new(now));
    }
}

fn told(authorities: &Authorities) -> ServerCas {
    ServerCas {
        pem: authorities.trusted_pem(),
        signing: authorities.signing().no,
        trusted: authorities.all().iter().map(|ca| ca.no).collect(),
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
