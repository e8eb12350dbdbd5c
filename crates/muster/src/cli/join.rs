//! Trust by fingerprint: the CA comes from the server itself and must be the one that was named.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use muster_agent::transport::{BadUrl, CaSet, Dialer, ProxyRules, ServerUrl, get};
use muster_agent::{AgentOptions, Standing};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::agent::AgentFlags;
use crate::client::{CliError, Exit};
use crate::server::identity;

/// More servers than this are not learnt.
const SERVERS_MAX: usize = 64;

/// Fetches the CA of the first server, checks it against the fingerprint and keeps it in the data folder.
pub async fn pin_ca(flags: &mut AgentFlags, fingerprint: &str) -> Result<(), CliError> {
    let wanted = parse(fingerprint)?;
    let Some(server) = flags.servers.first() else {
        return Err(CliError::usage("--server https://HOST:PORT is missing"));
    };
    let data = flags.data.get_or_insert_with(|| PathBuf::from("/var/lib/muster-agent")).clone();
    identity::prepare_data_dir(&data)?;
    let path = data.join("ca.pem");
    if !is_trusted(&data, &path, wanted) {
        let pem = fetch(server, flags.proxy.as_deref(), wanted).await?;
        belongs(flags, server, &data, &pem).await?;
        identity::write_private(&path, pem.as_bytes())?;
    }
    flags.ca = Some(path);
    Ok(())
}

/// Refuses a server that does not know the number this machine was given by another one. Its CA says nothing
/// of that: it may have changed while this machine was off.
async fn belongs(flags: &AgentFlags, server: &str, data: &Path, pem: &str) -> Result<(), CliError> {
    let url: ServerUrl =
        server.parse().map_err(|error: BadUrl| CliError::usage(error.to_string()))?;
    let mut options = AgentOptions::new(vec![url], pem.to_owned(), data.to_owned());
    options.proxy.clone_from(&flags.proxy);
    match muster_agent::standing(&options).await.map_err(anyhow::Error::from)? {
        Standing::NotEnrolled | Standing::Known(_) => Ok(()),
        Standing::Refused { agent_no, reason } => {
            let data = data.display();
            let message = format!(
                "this machine is agent {agent_no} of a server with another CA, and {server} does not take it \
                 for one of its own: {reason}. To make it an agent of that one: `muster agent leave --data \
                 {data}` first, then join again"
            );
            Err(CliError::new(Exit::Refused, message))
        }
    }
}

/// Adds the servers that the first one knows of, where it tells: the agent then balances by itself. One
/// that does not, or is of an earlier version, changes nothing.
pub async fn learn_servers(flags: &mut AgentFlags) {
    let told = match ask_servers(flags).await {
        Ok(told) => told,
        Err(error) => {
            tracing::info!("whether there are other servers is not known now: {error:#}");
            return;
        }
    };
    for url in told.into_iter().take(SERVERS_MAX) {
        let known = |other: &String| other.parse::<ServerUrl>().ok() == url.parse().ok();
        if url.parse::<ServerUrl>().is_ok() && !flags.servers.iter().any(known) {
            flags.servers.push(url);
        }
    }
}

async fn ask_servers(flags: &AgentFlags) -> anyhow::Result<Vec<String>> {
    let server: ServerUrl = flags.servers.first().context("no server")?.parse()?;
    let pem = std::fs::read_to_string(flags.ca.as_deref().context("no CA")?)?;
    // The CA may be another by now than the one the machine was joined with.
    let pem = match &flags.data {
        Some(data) => muster_agent::trusted_cas(data, &pem),
        None => pem,
    };
    let proxy = ProxyRules::new(flags.proxy.as_deref(), |name| std::env::var(name).ok())?;
    let tls = Arc::new(CaSet::from_pem(&pem)?.client_config());
    let dialer = Dialer { tls, proxy, bind: None, timeout: Duration::from_secs(5) };
    let connection = dialer.connect(&server).await?;
    let answer = get(connection, "/install/servers");
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await??;
    anyhow::ensure!(answer.status == 200, "{}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// Whether the certificate that was named is the one in the file, or one that its server has named since.
fn is_trusted(data: &Path, path: &Path, wanted: [u8; 32]) -> bool {
    let Ok(pinned) = std::fs::read_to_string(path) else { return false };
    holds(&pinned, wanted) || holds(&muster_agent::trusted_cas(data, &pinned), wanted)
}

fn holds(pem: &str, wanted: [u8; 32]) -> bool {
    use rustls::pki_types::pem::PemObject;
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    certificates.flatten().any(|der| Sha256::digest(&der)[..] == wanted)
}

fn parse(fingerprint: &str) -> Result<[u8; 32], CliError> {
    let digits: String = fingerprint.chars().filter(|c| *c != ':').collect();
    let bytes = hex::decode(&digits).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        CliError::usage(format!("{fingerprint:?} is no SHA-256 fingerprint: 64 hexadecimal digits"))
    })
}

async fn fetch(server: &str, proxy: Option<&str>, wanted: [u8; 32]) -> Result<String, CliError> {
    let unreachable = |why: String| CliError::new(Exit::Unreachable, format!("{server}: {why}"));
    let url: ServerUrl =
        server.parse().map_err(|error: BadUrl| CliError::usage(error.to_string()))?;
    let proxy = ProxyRules::new(proxy, |name| std::env::var(name).ok())
        .map_err(|error| CliError::usage(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pinned = Arc::new(Pinned { wanted, met: Mutex::default(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unreachable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(pinned.clone())
        .with_no_client_auth();
    let timeout = Duration::from_secs(15);
    let dialer = Dialer { tls: Arc::new(config), proxy, bind: None, timeout };
    let connected = dialer.connect(&url).await;
    let met = pinned.met.lock().expect("nobody panics with it").take();
    match (connected, met) {
        (Err(error), _) => Err(unreachable(format!("{:#}", anyhow::Error::from(error)))),
        (Ok(_), Some(ca)) => Ok(pem(&ca)),
        (Ok(_), None) => Err(unreachable("it showed no certificate".into())),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Accepts a chain that holds the wanted CA and is good under it, and nothing else.
#[derive(Debug)]
struct Pinned {
    wanted: [u8; 32],
    met: Mutex<Option<CertificateDer<'static>>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fits = |der: &&CertificateDer<'_>| Sha256::digest(der)[..] == self.wanted;
        let Some(ca) = others.iter().find(fits) else {
            let shown: Vec<String> =
                others.iter().chain([leaf]).map(|der| hex::encode(Sha256::digest(der))).collect();
            return Err(Error::General(format!(
                "the server shows other certificates than the CA that was named; their SHA-256 are {}",
                shown.join(", ")
            )));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(leaf, others, name, ocsp, now)?;
        *self.met.lock().expect("nobody panics with it") = Some(ca.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
