//! The certificate that a server shows, looked at without trusting it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_telemetry::doctor::{Finding, certificates, id};
use muster_telemetry::report::Certificate;
use muster_types::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use crate::server::certificates::not_after_der;

/// How long a server may take to show it.
const WAIT: Duration = Duration::from_secs(5);

/// What is wrong with the certificate at `address`; nothing when none is shown.
pub async fn look(address: &str, now: Timestamp) -> Vec<Finding> {
    let Ok(url) = url::Url::parse(address) else { return Vec::new() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Vec::new();
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let shown = tokio::time::timeout(WAIT, shown(&host, port)).await;
    let Ok(Some(der)) = shown else { return Vec::new() };
    let Some((not_after, names)) = not_after_der(&der) else { return Vec::new() };
    let mut findings = Vec::new();
    if !names.iter().any(|name| covers(name, &host)) {
        findings.push(Finding::new(
            id::CERTIFICATE_NAME,
            format!("the certificate at {address} is for {}, not for {host}", names.join(", ")),
            "add the name to `names` in the configuration and reload, or to your own certificate",
        ));
    }
    let listener = format!("operators ({address})");
    findings.extend(certificates(&[Certificate { listener, names, not_after }], now));
    findings
}

/// Whether a name in a certificate is good for this host.
fn covers(name: &str, host: &str) -> bool {
    if let Some(parent) = name.strip_prefix("*.") {
        return host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent));
    }
    name.eq_ignore_ascii_case(host)
}

/// The leaf that a server shows.
async fn shown(host: &str, port: u16) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let looked = Arc::new(Looked { met: Mutex::default(), provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(looked.clone())
        .with_no_client_auth();
    let tcp = TcpStream::connect((host, port)).await.ok()?;
    let name = ServerName::try_from(host.to_owned()).ok()?;
    // Whatever comes of the handshake, the certificate was seen or was not.
    drop(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await);
    looked.met.lock().ok()?.take()
}

/// Keeps what it is shown. Nothing is ever sent on such a connection.
#[derive(Debug)]
struct Looked {
    met: Mutex<Option<Vec<u8>>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Looked {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Ok(mut met) = self.met.lock() {
            *met = Some(leaf.to_vec());
        }
        Ok(ServerCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn names_cover_what_they_say() {
        assert!(covers("muster.example", "MUSTER.example"));
        assert!(covers("*.example.org", "a.example.org"));
        assert!(!covers("*.example.org", "a.b.example.org"));
        assert!(!covers("*.example.org", "example.org"));
        assert!(covers("127.0.0.1", "127.0.0.1") && !covers("127.0.0.1", "127.0.0.2"));
    }
}
