//! TLS of the listeners: rustls, aws-lc-rs, certificates that can be swapped while running.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Config;
use muster_authority::Leaf;

/// The configuration of the agents' listener: the leaf of the installation's CA, HTTP/1.1, and client
/// certificates where there is a CA for them: one that is presented must be good.
pub fn for_agents(config: &Config, leaf: &Leaf) -> anyhow::Result<Arc<ServerConfig>> {
    let verifier = match &config.agents.client_ca {
        Some(path) => client_verifier(path)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = build(verifier, leaf.chain.clone(), leaf.key.clone_key(), &[b"http/1.1"])?;
    // osquery never resumes, links live long, and with an ECDSA key resumption saves the server nothing:
    // a ticket would be a write, and a lock that all handshakes share, for nobody.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn client_verifier(path: &Path) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain("agents.client_ca", path)? {
        let added = roots.add(certificate);
        added.with_context(|| format!("agents.client_ca: {} is no CA", path.display()))?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .with_context(|| format!("agents.client_ca: {}", path.display()))
}

/// The configuration of the operators' listener: the operators' own certificate when there is one.
pub fn for_operators(config: &Config, leaf: &Leaf) -> anyhow::Result<Arc<ServerConfig>> {
    let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
    let no_client = WebPkiClientVerifier::no_client_auth();
    let mut config = match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => {
            build(no_client, read_chain("tls.certificate", certificate)?, read_key(key)?, alpn)
        }
        _ => build(no_client, leaf.chain.clone(), leaf.key.clone_key(), alpn),
    }?;
    // A second ticket is a second write.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn build(
    clients: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> anyhow::Result<ServerConfig> {
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .context("use the server certificate with its key")?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn read_chain(key: &str, path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow::anyhow!("{key}: {}: {error}", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{key}: {} holds no certificate", path.display());
    Ok(chain)
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("tls.key: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use muster_types::SystemClock;

    use super::*;
    use muster_authority::Authority;

    #[test]
    fn a_ca_for_agents_is_taken_and_a_fault_in_it_named() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ours = Authority::generate(&SystemClock).unwrap();
        let leaf = ours.issue(&["localhost".to_owned()], &SystemClock).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agents.pem");
        let mut config = Config::default();
        for_agents(&config, &leaf).unwrap();
        config.agents.client_ca = Some(path.clone());
        for text in [None, Some(""), Some(ours.key_pem.as_str())] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let error = for_agents(&config, &leaf).unwrap_err().to_string();
            assert!(error.contains("agents.client_ca"), "{error}");
        }
        std::fs::write(&path, &ours.certificate_pem).unwrap();
        for_agents(&config, &leaf).unwrap();
    }
}
