//! HTTP to the server of one context.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CliError, Context, Events, Exit};

/// Talks to one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: String,
    token: Option<String>,
}

impl Client {
    /// A client for this context. Connects when it is first used.
    pub fn new(context: &Context) -> Result<Self, CliError> {
        let tls = tls(context)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| CliError::new(Exit::Unreachable, error.to_string()))?;
        let address = context.address.trim_end_matches('/').to_owned();
        Ok(Self { http, address, token: context.token.clone() })
    }

    /// GET, decoded.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// GET with query parameters, decoded.
    pub async fn get_with<Q: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Q,
    ) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// GET of something that may not be there.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        self.unless(StatusCode::NOT_FOUND, self.request(Method::GET, path)).await
    }

    /// POST of something new; `None` when it conflicts with what is there.
    pub async fn create<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Option<T>, CliError> {
        let key = uuid::Uuid::new_v4().to_string();
        let request = self.request(Method::POST, path).header("idempotency-key", key).json(body);
        self.unless(StatusCode::CONFLICT, request).await
    }

    async fn unless<T: DeserializeOwned>(
        &self,
        status: StatusCode,
        request: RequestBuilder,
    ) -> Result<Option<T>, CliError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status() == status {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let read = response.json().await;
        read.map(Some).map_err(|error| CliError::new(Exit::Refused, error.to_string()))
    }

    /// Every item of a paged list.
    pub async fn all(&self, path: &str) -> Result<Vec<serde_json::Value>, CliError> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit", "1000".to_owned())];
            query.extend(after.take().map(|after| ("after", after)));
            let mut page: serde_json::Value = self.get_with(path, &query).await?;
            if let serde_json::Value::Array(items) = page["items"].take() {
                found.extend(items);
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// A body sent with this method, the answer decoded. Carries an `Idempotency-Key`.
    pub async fn send<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, CliError> {
        let key = uuid::Uuid::new_v4().to_string();
        self.json(self.request(method, path).header("idempotency-key", key).json(body)).await
    }

    /// POST, decoded.
    pub async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CliError> {
        self.send(Method::POST, path, body).await
    }

    /// DELETE; an empty answer is fine.
    pub async fn delete(&self, path: &str) -> Result<(), CliError> {
        let key = uuid::Uuid::new_v4().to_string();
        let request = self.request(Method::DELETE, path).header("idempotency-key", key);
        self.checked(request).await.map(drop)
    }

    /// The raw answer of a GET or POST, once its status says success.
    pub async fn checked(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// Server-sent events of a path.
    pub async fn events(&self, path: &str) -> Result<Events, CliError> {
        let request = self.request(Method::GET, path).header("accept", "text/event-stream");
        Ok(Events::new(self.checked(request).await?))
    }

    /// A request with the address and the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.address));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let body = self.checked(request).await?.bytes().await;
        let body = body.map_err(|error| self.unreachable(&error))?;
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            CliError::new(Exit::Refused, format!("the server's answer cannot be read: {error}"))
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            cause = inner.to_string();
            source = inner.source();
        }
        let hint = if cause.contains("certificate") || cause.contains("UnknownIssuer") {
            "; its certificate is not from the CA of this context (muster context set NAME --ca …)"
        } else {
            "; is it running? (`muster up` starts one here)"
        };
        CliError::new(Exit::Unreachable, format!("cannot reach {}: {cause}{hint}", self.address))
    }
}

async fn refusal(response: Response) -> CliError {
    let status = response.status();
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    let title =
        body["title"].as_str().unwrap_or_else(|| status.canonical_reason().unwrap_or("refused"));
    let message = body["detail"].as_str().unwrap_or(title).to_owned();
    let exit = match status {
        StatusCode::UNAUTHORIZED => Exit::SignIn,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Exit::Unreachable
        }
        _ => Exit::Refused,
    };
    match exit {
        Exit::SignIn => CliError::new(exit, format!("{message} (muster login)")),
        _ => CliError::new(exit, message),
    }
}

fn tls(context: &Context) -> Result<ClientConfig, CliError> {
    let bad = |message: String| CliError::new(Exit::Unreachable, message);
    let mut roots = RootCertStore::empty();
    if let Some(pem) = &context.ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|e| bad(format!("the context's CA: {e}")))?;
            roots.add(certificate).map_err(|e| bad(format!("the context's CA: {e}")))?;
        }
    } else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
