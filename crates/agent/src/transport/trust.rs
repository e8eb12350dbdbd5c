//! Which servers are believed: those whose certificate one of the pinned CAs has signed.
//!
//! The system's store plays no part: whoever controls a public CA, or a proxy that breaks TLS open,
//! must not be able to command agents.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a set of CAs cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// There is no certificate in it.
    #[error("there is no certificate in the CA file")]
    Empty,
    /// One of them cannot be read.
    #[error("a CA certificate cannot be read: {0}")]
    Malformed(String),
}

/// A set of pinned CAs.
#[derive(Clone, Debug)]
pub struct CaSet {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl CaSet {
    /// Reads one or more certificates in PEM.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        let malformed = |error: &dyn std::fmt::Display| CaError::Malformed(error.to_string());
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| malformed(&error))?;
        if certificates.is_empty() {
            return Err(CaError::Empty);
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| malformed(&error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifier = builder.build().map_err(|error| malformed(&error))?;
        Ok(Self { certificates, verifier, provider })
    }

    /// A TLS configuration that believes only this set, and explains whom it does not believe.
    ///
    /// # Panics
    /// Never: the provider supports the default versions.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let verifier = Explaining { inner: Arc::clone(&self.verifier), expected: self.describe() };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// Whether this set believes a server that showed these certificates under that name.
    #[must_use]
    pub fn believes(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let Some((leaf, rest)) = chain.split_first() else { return false };
        self.verifier.verify_server_cert(leaf, rest, name, &[], now).is_ok()
    }

    /// Subjects and fingerprints, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let all: Vec<String> = self.certificates.iter().map(|der| describe(der)).collect();
        all.join("; ")
    }
}

/// Adds to a refusal what was met and what was expected.
#[derive(Debug)]
struct Explaining {
    inner: Arc<WebPkiServerVerifier>,
    expected: String,
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(leaf, chain, name, ocsp, now).inspect_err(|error| {
            tracing::warn!(
                server = %name.to_str(),
                met = %describe(leaf),
                expected = %format!("a certificate signed by {}", self.expected),
                "server not believed: {error}"
            );
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Subject, alternative names, validity and fingerprint.
fn describe(der: &[u8]) -> String {
    let mut text = String::new();
    if let Ok((_, certificate)) = X509Certificate::from_der(der) {
        let _ = write!(text, "{}", certificate.subject());
        let names = certificate.subject_alternative_name().ok().flatten();
        let names: Vec<String> =
            names.iter().flat_map(|extension| &extension.value.general_names).map(name).collect();
        if !names.is_empty() {
            let _ = write!(text, " (for {})", names.join(", "));
        }
        let _ = write!(text, " valid until {}", certificate.validity().not_after);
    } else {
        text.push_str("an unreadable certificate");
    }
    let fingerprint = hex::encode(digest::digest(&digest::SHA256, der));
    let _ = write!(text, ", SHA-256 {fingerprint}");
    text
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).map(|b| std::net::Ipv6Addr::from(b).to_string()),
        }
        .unwrap_or_else(|_| "?".to_owned()),
        other => other.to_string(),
    }
}
