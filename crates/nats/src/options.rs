//! How to reach NATS.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use crate::{ConnectError, backoff};

/// How long one server may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a silent connection is probed; after two probes without an answer it counts as broken.
const PING_EVERY: Duration = Duration::from_secs(3);

/// How to reach NATS, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// `nats://host:port` or `tls://host:port`, several separated by commas.
    pub url: String,
    /// What the servers show this connection as.
    pub name: String,
    /// User name; needs `password_file`.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// File with a JWT and its nkey seed, as `nsc` writes it.
    pub credentials_file: Option<PathBuf>,
    /// File with the CA (PEM) of the servers' certificates; without one, the CAs of the machine.
    pub ca: Option<PathBuf>,
    /// File with a client certificate (PEM); needs `key`.
    pub certificate: Option<PathBuf>,
    /// File with its key (PEM).
    pub key: Option<PathBuf>,
    /// How long [`connect`](crate::connect) waits for a server before it goes on without one.
    pub first_wait: Duration,
    /// Whether this connection hears what it publishes itself.
    pub echo: bool,
    /// Messages that may wait for the reader of one subscription; more are dropped and count as a
    /// slow consumer.
    pub subscription_capacity: usize,
}

impl Options {
    /// The servers at `url`, without credentials, known to them as `name`.
    #[must_use]
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            user: None,
            password_file: None,
            credentials_file: None,
            ca: None,
            certificate: None,
            key: None,
            first_wait: Duration::from_secs(5),
            echo: true,
            subscription_capacity: 4096,
        }
    }

    /// The servers of the URL. All have the scheme of the first.
    ///
    /// # Errors
    /// When it names none, or holds a password.
    pub(crate) fn servers(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        let wrong = |what: &str| ConnectError::Url { url: self.shown(), what: what.to_owned() };
        let (scheme, hosts) =
            self.url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        if !matches!(scheme, "nats" | "tls") {
            return Err(wrong("its scheme is neither nats nor tls"));
        }
        let prefix = format!("{scheme}://");
        let hosts = hosts.split(',').map(str::trim);
        let hosts = hosts.map(|host| host.strip_prefix(&prefix).unwrap_or(host));
        let servers = hosts.map(|host| {
            if host.is_empty() {
                return Err(wrong("a host is missing"));
            }
            if host.contains('@') {
                return Err(wrong(
                    "it holds a password; put it into nats.user and nats.password_file",
                ));
            }
            format!("{prefix}{host}")
                .parse()
                .map_err(|error: std::io::Error| wrong(&error.to_string()))
        });
        servers.collect()
    }

    /// The URL without what may be a secret.
    #[must_use]
    pub fn shown(&self) -> String {
        let Some((scheme, hosts)) = self.url.split_once("://") else {
            return self.url.clone();
        };
        let hosts =
            hosts.split(',').map(|host| host.rsplit_once('@').map_or(host, |(_, host)| host));
        format!("{scheme}://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// Whether a server without TLS is refused: else whoever answers in its place is told the password.
    fn wants_tls(&self) -> bool {
        let settings = [&self.ca, &self.certificate, &self.key];
        self.url.starts_with("tls://") || settings.iter().any(|setting| setting.is_some())
    }

    /// What the client library is told, except for events.
    pub(crate) async fn prepare(&self) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_EVERY)
            .max_reconnects(None)
            // What servers say of each other is often true on their side of a firewall only.
            .ignore_discovered_servers()
            .reconnect_delay_callback(backoff::before)
            .subscription_capacity(self.subscription_capacity)
            .require_tls(self.wants_tls());
        if !self.echo {
            options = options.no_echo();
        }
        if let Some(path) = &self.ca {
            options = options.add_root_certificates(readable(path)?);
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                options = options.add_client_certificate(readable(certificate)?, readable(key)?);
            }
            (None, None) => {}
            _ => return Err(settings("nats.certificate and nats.key need each other")),
        }
        if let Some(path) = &self.credentials_file {
            if self.user.is_some() {
                return Err(settings("give nats.credentials_file or nats.user, not both"));
            }
            let text = read(path)?;
            let wrong = |error: std::io::Error| file(path, &error.to_string());
            return options.credentials(&text).map_err(wrong);
        }
        match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                let password = read(path)?.trim_end_matches(['\r', '\n']).to_owned();
                Ok(options.user_and_password(user.clone(), password))
            }
            (None, None) => Ok(options),
            _ => Err(settings("nats.user and nats.password_file need each other")),
        }
    }
}

fn settings(text: &str) -> ConnectError {
    ConnectError::Settings(text.to_owned())
}

fn file(path: &std::path::Path, what: &str) -> ConnectError {
    ConnectError::File { path: path.to_owned(), what: what.to_owned() }
}

fn read(path: &std::path::Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|error| file(path, &error.to_string()))
}

/// The path, when it can be opened: a missing file is said at start and not at a handshake.
fn readable(path: &std::path::Path) -> Result<PathBuf, ConnectError> {
    std::fs::File::open(path).map_err(|error| file(path, &error.to_string()))?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_share_a_scheme() {
        let servers = Options::new("tls://a:1,b,tls://c:3", "x").servers().unwrap();
        let shown: Vec<String> =
            servers.iter().map(|s| format!("{}:{}", s.host(), s.port())).collect();
        assert_eq!(shown, ["a:1", "b:4222", "c:3"]);
        assert!(servers.iter().all(ServerAddr::tls_required));
    }

    #[test]
    fn who_names_certificates_is_not_served_without_tls() {
        let plain = Options::new("nats://a", "x");
        assert!(!plain.wants_tls() && Options::new("tls://a", "x").wants_tls());
        assert!(Options { ca: Some("ca.pem".into()), ..plain }.wants_tls());
    }

    #[test]
    fn wrong_addresses_are_explained_without_the_password() {
        for (url, said) in [
            ("localhost:4222", "no scheme"),
            ("http://a", "neither"),
            ("nats://", "host is missing"),
            ("nats://a,,b", "host is missing"),
            ("nats://ana:secret@a", "nats.password_file"),
        ] {
            let error = Options::new(url, "x").servers().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
