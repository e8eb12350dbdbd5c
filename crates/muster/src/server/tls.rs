//! TLS of the listeners: rustls, aws-lc-rs, certificates that can be swapped while running.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::ca::Leaf;
use crate::config::Config;

/// The configuration of the agents' listener: the leaf of the installation's CA, HTTP/1.1.
pub fn for_agents(leaf: &Leaf) -> anyhow::Result<Arc<ServerConfig>> {
    build(leaf.chain.clone(), leaf.key.clone_key(), &[b"http/1.1"])
}

/// The configuration of the operators' listener: the operators' own certificate when there is one.
pub fn for_operators(config: &Config, leaf: &Leaf) -> anyhow::Result<Arc<ServerConfig>> {
    let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
    match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => build(read_chain(certificate)?, read_key(key)?, alpn),
        _ => build(leaf.chain.clone(), leaf.key.clone_key(), alpn),
    }
}

fn build(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("use the server certificate with its key")?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // With an ECDSA key resumption saves nothing, and a second ticket is a second write.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow::anyhow!("tls.certificate: {}: {error}", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "tls.certificate: {} holds no certificate", path.display());
    Ok(chain)
}

fn read_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("tls.key: {}: {error}", path.display()))
}
