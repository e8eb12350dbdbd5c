//! Getting in: the CA, the first administrator, contexts, an enrolment secret.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Certificate, Client, ClientBuilder, Method};
use serde_json::{Value, json};

use super::instance::Instance;
use crate::wait_for;

/// The administrator's password in every cluster under test.
const PASSWORD: &str = "a cluster under test 7";

/// What it takes to use a cluster.
#[derive(Debug)]
pub struct Access {
    /// File with the CA of its certificates.
    pub ca: PathBuf,
    /// File with the secret agents enrol with.
    pub secret_file: PathBuf,
    /// Token of the administrator `admin`.
    pub token: String,
    contexts: PathBuf,
    client: Client,
}

impl Access {
    /// Takes the one-time password of the first administrator and sets another.
    pub(super) fn gain(instances: &[Instance], dir: &Path) -> anyhow::Result<Self> {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let frontend = instances.iter().find(|instance| instance.has_role("frontend"));
        let api = instances.iter().find(|instance| instance.has_role("api"));
        let (frontend, api) = frontend.zip(api).context("a frontend and an api are needed")?;
        let ca_url = format!("{}/install/ca.pem", frontend.agents_url());
        let pem = run(async {
            // Nothing is known yet; the test trusts its own processes.
            let client = ClientBuilder::new().tls_danger_accept_invalid_certs(true).no_proxy();
            anyhow::Ok(client.build()?.get(&ca_url).send().await?.error_for_status()?.text().await?)
        })?
        .context("fetch the CA")?;
        let (ca, secret_file) = (dir.join("ca.pem"), dir.join("enrol-secret"));
        std::fs::write(&ca, &pem)?;
        let client = ClientBuilder::new()
            .tls_certs_only([Certificate::from_pem(pem.as_bytes())?])
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        let contexts = dir.join("cli");
        let mut access = Self { ca, secret_file, token: String::new(), contexts, client };
        let one_time = wait_for("the first administrator", Duration::from_secs(10), || {
            let paths = instances.iter().map(|one| one.data_dir().join("admin-password"));
            let found = paths.filter_map(|path| std::fs::read_to_string(path).ok()).next();
            Ok(found.filter(|text| text.ends_with('\n')))
        })?;
        let one_time = one_time.trim();
        let post = |access: &Self, path: &str, body: Value| -> anyhow::Result<Value> {
            let (status, answer) = access.call(api, Method::POST, path, Some(&body))?;
            ensure!((200..300).contains(&status), "POST {path}: {status} {answer}");
            Ok(answer)
        };
        let answer = post(&access, "/v1/login", json!({"name": "admin", "password": one_time}))?;
        answer["token"].as_str().context("no token")?.clone_into(&mut access.token);
        let body = json!({"current_password": one_time, "new_password": PASSWORD});
        let answer = post(&access, "/v1/password", body)?;
        if let Some(token) = answer["token"].as_str() {
            token.clone_into(&mut access.token);
        }
        let made = post(&access, "/v1/enrol-secrets", json!({"name": "test"}))?;
        let secret = made["secret"].as_str().context("no secret")?;
        std::fs::write(&access.secret_file, secret)?;
        Ok(access)
    }

    /// A context for each instance, named as it.
    pub(super) fn leave_contexts(&self, instances: &[Instance]) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.contexts)?;
        let ca = serde_json::to_string(&std::fs::read_to_string(&self.ca)?)?;
        let mut text = format!("current: {}\ncontexts:\n", instances[0].name());
        for instance in instances {
            let (name, address) = (instance.name(), instance.operators_url());
            let token = &self.token;
            let _ = writeln!(
                text,
                "  {name}: {{address: '{address}', ca_pem: {ca}, token: '{token}'}}"
            );
        }
        std::fs::write(self.contexts.join("contexts.yaml"), text).context("write the contexts")
    }

    /// The enrolment secret.
    ///
    /// # Errors
    /// When its file is gone.
    pub fn secret(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.secret_file)?)
    }

    /// One call of the API of an instance; status and answer.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn call(
        &self,
        instance: &Instance,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let mut request =
            self.client.request(method, format!("{}{path}", instance.operators_url()));
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        run(async {
            let answer = request.send().await.with_context(|| path.to_owned())?;
            let (status, body) = (answer.status().as_u16(), answer.bytes().await?);
            let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
            Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
        })?
    }
}

/// Runs something in a runtime of its own, from a plain thread.
fn run<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
