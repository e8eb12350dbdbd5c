//! Making a machine that has osqueryd an agent of this server.
//!
//! `GET /install` on the agents' listener is a shell script. Who runs it must know that it is ours, so the
//! [`line`] to paste fetches the CA first, compares its fingerprint, and fetches the script over TLS
//! that this CA vouches for. The secret comes on standard input, or from the environment: never on
//! a command line, where everybody on the machine can read it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::osquery_flags::{Flags, System};
use crate::server::advertised::Advertised;

const SCRIPT: &str = include_str!("install.sh");

/// What the script is made of.
pub struct Install {
    /// The CAs as they are now.
    pub cas: Box<dyn Fn() -> Cas + Send + Sync>,
    /// Where all instances serve agents, where that is told.
    pub advertised: Advertised,
    /// Names in the server's certificate now.
    pub names: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Certificates of CAs, as PEM.
pub struct Cas {
    /// Of the one that signs the servers' certificates, which the [`line`] names.
    pub signing: String,
    /// Of all that agents are to trust.
    pub trusted: String,
}

/// The routes, for the agents' listener.
pub fn router(install: Install) -> Router {
    Router::new()
        .route("/install", get(script))
        .route("/install/ca.pem", get(ca))
        .route("/install/servers", get(servers))
        .with_state(Arc::new(install))
}

async fn ca(State(install): State<Arc<Install>>) -> Response {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], (install.cas)().signing).into_response()
}

async fn servers(State(install): State<Arc<Install>>) -> axum::Json<Vec<String>> {
    axum::Json(install.advertised.get())
}

async fn script(State(install): State<Arc<Install>>, headers: HeaderMap) -> Response {
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Some(server) = install.server(asked) else {
        let message = "this server is called otherwise; its certificate has other names\n";
        return (StatusCode::MISDIRECTED_REQUEST, message).into_response();
    };
    let kind = [(header::CONTENT_TYPE, "text/x-shellscript; charset=utf-8")];
    (kind, install.script(&server)).into_response()
}

impl Install {
    /// The name that was asked for, when the certificate holds it: agents have to reach the server by it.
    /// What is not a plain host never gets into a script.
    fn server(&self, asked: &str) -> Option<String> {
        let (host, port) = match asked.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (asked, 443),
        };
        let plain = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let known = is_host(host) && (self.names)().contains(&plain);
        // Behind a forwarded port the one that was asked for is right.
        known.then(|| format!("{host}:{port}"))
    }

    fn script(&self, server: &str) -> String {
        let flags =
            |system| Flags { server, system, host_identifier: "uuid", accept_gzip: false }.text();
        let cas = (self.cas)().trusted;
        let cas = cas.trim_end();
        SCRIPT
            .replace("@SERVER@", server)
            .replace("@CA_SUM@", &hex::encode(Sha256::digest(format!("{cas}\n"))))
            .replace("@CA@", cas)
            .replace("@FLAGS_LINUX@", flags(System::Linux).trim_end())
            .replace("@FLAGS_DARWIN@", flags(System::Darwin).trim_end())
    }
}

/// Whether this is a DNS name or an address (IPv6 in brackets), and nothing a shell would read.
pub fn is_host(host: &str) -> bool {
    let name = |host: &str| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name(host) && !host.starts_with('-'),
    }
}

/// SHA-256 of the first certificate in a PEM text, hexadecimal without colons.
pub fn fingerprint(pem: &str) -> anyhow::Result<String> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| anyhow::anyhow!("the CA cannot be read: {error}"))?;
    Ok(hex::encode(Sha256::digest(&certificate)))
}

/// The line to paste on a machine, as root.
pub fn line(server: &str, fingerprint: &str) -> String {
    format!(
        "d=$(mktemp -d) && curl -fsSk https://{server}/install/ca.pem -o $d/ca.pem && \
         sed '/-----/d' $d/ca.pem | openssl base64 -d | openssl dgst -sha256 | grep -q {fingerprint} && \
         curl -fsS --cacert $d/ca.pem https://{server}/install -o $d/install && sh $d/install"
    )
}

#[cfg(test)]
mod tests;
