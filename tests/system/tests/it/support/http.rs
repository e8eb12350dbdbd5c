//! Doors below the command line: TLS with the server's CA, and plain API calls.

use anyhow::Context;
use muster_testkit::Server;
use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// The server's CA as trusted roots. Also chooses the process's cryptography.
pub fn roots(server: &Server) -> anyhow::Result<RootCertStore> {
    // Another test of this process may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let pem = std::fs::read(server.data_dir().join("ca.pem"))?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    Ok(roots)
}

/// POSTs JSON to the API; status and answer.
pub fn post(
    server: &Server,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> anyhow::Result<(u16, Value)> {
    roots(server)?;
    let pem = std::fs::read(server.data_dir().join("ca.pem"))?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(&pem)?])
            .no_proxy()
            .build()?;
        let url = format!("{}{path}", server.operators_url());
        let mut request = client.post(url).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.with_context(|| format!("POST {path}"))?;
        let (status, body) = (answer.status().as_u16(), answer.bytes().await?);
        Ok((status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? }))
    })
}
