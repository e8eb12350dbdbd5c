//! Connecting, for good.

use std::error::Error as _;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, RequestErrorKind, rustls};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{ConnectError, Options, Status, Version, backoff};

/// A connection that looks for a server for as long as it lives. Clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    status: watch::Receiver<Status>,
    shown: String,
}

/// Connects. When no server answers within [`Options::first_wait`] this is no error: a warning is
/// logged and the connection goes on looking.
///
/// # Errors
/// [`ConnectError`]: what waiting does not mend, such as a wrong password.
pub async fn connect(options: &Options) -> Result<Connection, ConnectError> {
    let servers = options.servers()?;
    let (sender, status) = watch::channel(Status::default());
    let prepare = async || {
        let sender = sender.clone();
        let prepared = options.prepare().await?.event_callback(move |event| {
            sender.send_modify(|status| status.see(&event));
            std::future::ready(())
        });
        Ok::<_, ConnectError>(prepared)
    };
    let shown = options.shown();
    let connected = |client| Connection { client, status: status.clone(), shown: shown.clone() };
    let deadline = Instant::now() + options.first_wait;
    let mut last = "nothing answers".to_owned();
    for attempt in 1.. {
        let connecting = prepare().await?.connect(&servers[..]);
        match timeout_at(deadline, connecting).await {
            Ok(Ok(client)) => {
                await_first_event(&status).await;
                return Ok(connected(client));
            }
            Ok(Err(error)) if is_final(&error) => {
                return Err(ConnectError::Refused { url: shown, what: chain(&error) });
            }
            Ok(Err(error)) => last = chain(&error),
            Err(_) => break,
        }
        let pause = backoff::before(attempt);
        if Instant::now() + pause >= deadline {
            break;
        }
        sleep(pause).await;
    }
    tracing::warn!(url = shown, error = last, "NATS is not there; looking for it from now on");
    let lazily = prepare().await?.retry_on_initial_connect().connect(&servers[..]).await;
    let wrong = |error| ConnectError::Refused { url: shown.clone(), what: chain(&error) };
    Ok(connected(lazily.map_err(wrong)?))
}

/// The client tells events a moment after they happened.
async fn await_first_event(status: &watch::Receiver<Status>) {
    let seen = async { status.clone().wait_for(|status| status.connected).await.is_ok() };
    let _ = timeout(Duration::from_secs(1), seen).await;
}

impl Connection {
    /// The client of the library.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What happens to the connection.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether there is a server now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.status.borrow().connected
    }

    /// The URL, for people.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The version of the server that is connected, or was last.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        Version::parse(&self.client.try_server_info()?.version)
    }

    /// Waits until the server has seen all that was sent on this connection before, and says whether
    /// it has. `subject` is one that nobody answers on.
    pub async fn round_trip(&self, subject: String, within: Duration) -> bool {
        match timeout(within, self.client.request(subject, Default::default())).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == RequestErrorKind::NoResponders,
            Err(_) => false,
        }
    }
}

/// Whether trying again is of no use.
fn is_final(error: &async_nats::ConnectError) -> bool {
    use ConnectErrorKind as Kind;
    let refused = matches!(
        error.kind(),
        Kind::Authentication | Kind::AuthorizationViolation | Kind::Tls | Kind::ServerParse
    );
    refused || is_tls(error)
}

/// A handshake that failed for what was presented comes as an I/O error around its reason.
fn is_tls(error: &async_nats::ConnectError) -> bool {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<rustls::Error>() {
            return true;
        }
        let io = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if io.is_some_and(|io| io.is::<rustls::Error>()) {
            return true;
        }
        source = inner.source();
    }
    false
}

/// The error with its sources.
fn chain(error: &async_nats::ConnectError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}
