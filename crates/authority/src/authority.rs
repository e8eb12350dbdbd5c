//! A certificate authority, and the leaves it issues.
//!
//! A leaf lives in memory only: each start (and each SIGHUP) issues a new one for all names and addresses
//! the machine has now, so a renamed or moved machine never needs a new CA.

use std::net::IpAddr;

use muster_types::{Clock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::error::{Error, failed};

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 90;

/// A certificate authority.
pub struct Authority {
    /// Its certificate.
    pub certificate_pem: String,
    /// Its private key. Sealed wherever it is kept.
    pub key_pem: String,
}

/// A certificate with its key, ready to serve.
pub struct Leaf {
    /// The leaf, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// The same as files.
pub struct LeafPem {
    /// The leaf, then the CA.
    pub chain_pem: String,
    /// The leaf's key.
    pub key_pem: String,
}

impl Authority {
    /// Makes a new CA, valid for ten years from the day before `clock`'s (for clocks that lag).
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate(clock: &dyn Clock) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(failed("generate the CA's key"))?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Muster");
        // Two installations' CAs must not share a subject, or verifiers mix them up.
        let id: [u8; 4] = rand::random();
        name.push(DnType::CommonName, format!("Muster CA {}", hex::encode(id)));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, clock.now(), CA_DAYS);
        let certificate = params.self_signed(&key).map_err(failed("sign the CA's certificate"))?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Issues a server certificate for these names and addresses.
    ///
    /// # Errors
    /// When a name is none, or the CA is damaged.
    pub fn issue(&self, names: &[String], clock: &dyn Clock) -> Result<Leaf, Error> {
        let (leaf, key) = self.sign(names, LEAF_DAYS, clock)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(failed("encode the server's key"))?;
        Ok(Leaf { chain: vec![leaf.der().clone(), self.certificate_der()?], key })
    }

    /// Issues one as files for another program.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_pem(
        &self,
        names: &[String],
        days: i64,
        clock: &dyn Clock,
    ) -> Result<LeafPem, Error> {
        let (leaf, key) = self.sign(names, days, clock)?;
        let chain_pem = format!("{}{}", leaf.pem(), self.certificate_pem);
        Ok(LeafPem { chain_pem, key_pem: key.serialize_pem() })
    }

    fn sign(
        &self,
        names: &[String],
        days: i64,
        clock: &dyn Clock,
    ) -> Result<(rcgen::Certificate, KeyPair), Error> {
        let ca_key = KeyPair::from_pem(&self.key_pem).map_err(failed("read the CA's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, ca_key)
            .map_err(failed("read the CA's certificate"))?;
        let key = KeyPair::generate().map_err(failed("generate the server's key"))?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, "Muster server");
        params.distinguished_name = subject;
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => name.as_str().try_into().map(SanType::DnsName),
            })
            .collect::<Result<_, _>>()
            .map_err(failed("read the server's names"))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
        set_validity(&mut params, clock.now(), days);
        let leaf =
            params.signed_by(&key, &issuer).map_err(failed("sign the server's certificate"))?;
        Ok((leaf, key))
    }

    /// SHA-256 over the CA certificate, as people compare it: hex pairs with colons.
    ///
    /// # Errors
    /// When the certificate is damaged.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let pairs: Vec<String> =
            Sha256::digest(self.certificate_der()?).iter().map(|b| format!("{b:02X}")).collect();
        Ok(pairs.join(":"))
    }

    fn certificate_der(&self) -> Result<CertificateDer<'static>, Error> {
        use rustls_pki_types::pem::PemObject;
        CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .map_err(failed("read the CA's certificate"))
    }
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |day: i64| {
        let at = jiff::Timestamp::from_second(day * 86_400).unwrap_or_default();
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    params.not_before = date(now.day() - 1);
    params.not_after = date(now.day() + days);
}

#[cfg(test)]
mod tests {
    use muster_types::SystemClock;
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn a_leaf_carries_every_name_and_is_signed_by_the_ca() {
        let ca = Authority::generate(&SystemClock).unwrap();
        let names = ["localhost", "db7.example.org", "192.0.2.7", "2001:db8::7"].map(String::from);
        let leaf = ca.issue(&names, &SystemClock).unwrap();
        let (_, cert) =
            x509_parser::certificate::X509Certificate::from_der(&leaf.chain[0]).unwrap();
        let (_, issuer) =
            x509_parser::certificate::X509Certificate::from_der(&leaf.chain[1]).unwrap();
        assert_eq!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 4);
        assert_eq!(cert.issuer(), issuer.subject());
        assert!(cert.validity().is_valid());
        assert_eq!(ca.fingerprint().unwrap().len(), 32 * 3 - 1);
    }
}
