//! The agent: enrol, connect, hold the link, come again.

use std::sync::Arc;
use std::time::Duration;

use muster_types::AgentNo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::buffer::Buffer;
use crate::link::{self, Closed, Greeting, Identity, Session, greet};
use crate::options::AgentOptions;
use crate::query::Runner;
use crate::servers::Servers;
use crate::state::State;
use crate::tasks::{Done, Order, Tasks, ends};
use crate::transport::{CaError, CaSet, Connection, Dialer, ProxyRules, websocket};
use crate::{Refusal, host};

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder.
    #[error("data folder {path}")]
    State {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// The CAs.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// An address.
    #[error(transparent)]
    Url(#[from] crate::transport::BadUrl),
    /// There must be one.
    #[error("no server is configured")]
    NoServer,
    /// Not enrolled, and nothing to enrol with.
    #[error("this machine is not enrolled and there is no enrolment secret")]
    NoSecret,
    /// The secret's file.
    #[error("cannot read the enrolment secret")]
    Secret(#[source] std::io::Error),
    /// The server will not have us.
    #[error(transparent)]
    Enrol(#[from] Refusal),
    /// It can be reached, and opens no link.
    #[error("{server} does not answer an agent")]
    NotGreeted {
        /// Which.
        server: String,
    },
    /// It will not have us now.
    #[error("{server} says: {reason}; try again later")]
    SentAway {
        /// Which.
        server: String,
        /// Its words.
        reason: String,
    },
    /// The buffer.
    #[error(transparent)]
    Buffer(#[from] crate::buffer::Error),
}

/// Time for name, TCP, proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A link that lasted this long was a good one: the next failure counts as the first.
const GOOD_LINK: Duration = Duration::from_secs(30);

/// Enrols this machine, unless it is, and gives its number. Tries each server once.
///
/// # Errors
/// [`Error`].
pub async fn enrol(options: &AgentOptions) -> Result<AgentNo, Error> {
    let mut agent = Agent::open(options.clone())?;
    agent.enrol_once().await
}

/// Runs an agent until `shutdown`.
///
/// # Errors
/// When the data folder or the configuration cannot be used. A server that is away, or refuses, is
/// no error: the agent keeps trying.
pub async fn run(options: AgentOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let mut agent = Agent::open(options)?;
    let buffer_dir = agent.state.path("buffer");
    let buffer = Arc::new(Buffer::open(&buffer_dir, agent.options.buffer)?);
    let waiting = ends(buffer.facts()?);
    let done = Done::open(&agent.state.path("done"), waiting).map_err(|e| agent.failed(e))?;
    let done = Arc::new(done);
    let tasks = Tasks {
        runner: Runner::new(agent.options.query.clone()),
        buffer: Arc::clone(&buffer),
        done: Arc::clone(&done),
        limits: agent.options.limits,
        concurrent: agent.options.concurrent_queries,
        clock: Arc::clone(&agent.options.clock),
        dir: agent.options.data_dir.clone(),
    };
    let (orders, received) = mpsc::channel(64);
    // Both halves end together, whichever ends first.
    let stop = shutdown.child_token();
    tokio::select! {
        result = tasks.run(received, stop.clone()) => Ok(result?),
        result = agent.links(&buffer, &done, &orders, &stop) => result,
    }
}

pub(crate) struct Agent {
    pub(crate) options: AgentOptions,
    pub(crate) state: State,
    pub(crate) cas: String,
    pub(crate) dialer: Dialer,
    pub(crate) identity: Identity,
    pub(crate) enrolled: bool,
    /// Whom to talk to.
    pub(crate) servers: Servers,
}

/// What to do after a link.
pub(crate) enum Next {
    Stop,
    Again,
    After(Duration),
    Failed,
}

impl Agent {
    pub(crate) fn open(options: AgentOptions) -> Result<Self, Error> {
        let failed = |source| Error::State { path: options.data_dir.clone(), source };
        if options.servers.is_empty() {
            return Err(Error::NoServer);
        }
        let state = State::open(&options.data_dir).map_err(failed)?;
        let key = state.key().map_err(failed)?;
        let agent_no = state.agent_no(&key);
        let identity = Identity {
            key,
            agent_no: agent_no.unwrap_or_default(),
            process_nonce: rand::random(),
            boot_id: host::boot_id(),
            machine_id: host::machine_id(&options).map_err(failed)?,
            host: host::facts(&options),
        };
        let cas = state.cas(&options.ca_pem);
        let dialer = Dialer {
            tls: Arc::new(CaSet::from_pem(&cas)?.client_config()),
            proxy: ProxyRules::new(options.proxy.as_deref(), |name| std::env::var(name).ok())?,
            bind: None,
            timeout: CONNECT_TIMEOUT,
        };
        let servers = Servers::shuffled(&options.servers);
        let enrolled = agent_no.is_some();
        Ok(Self { options, state, cas, dialer, identity, enrolled, servers })
    }

    pub(crate) fn failed(&self, source: std::io::Error) -> Error {
        Error::State { path: self.options.data_dir.clone(), source }
    }

    async fn links(
        &mut self,
        buffer: &Buffer,
        done: &Done,
        orders: &mpsc::Sender<Order>,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        while !shutdown.is_cancelled() {
            let started = tokio::time::Instant::now();
            let next = tokio::select! {
                next = Box::pin(self.link(buffer, done, orders, shutdown)) => next?,
                () = shutdown.cancelled(), if !self.enrolled => Next::Stop,
            };
            if started.elapsed() > GOOD_LINK {
                self.servers.was_good();
            }
            let asked = match next {
                Next::Stop => return Ok(()),
                Next::Again => continue,
                Next::After(wait) => Some(wait),
                Next::Failed => None,
            };
            let wait = match self.enrolled {
                true => self.servers.next(asked, self.options.backoff),
                // To enrol, all were asked.
                false => self.servers.again(asked, self.options.backoff),
            };
            tracing::debug!(wait_ms = wait.as_millis(), "waiting before the next attempt");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    /// One attempt: enrol if needed, connect, greet, hold.
    async fn link(
        &mut self,
        buffer: &Buffer,
        done: &Done,
        orders: &mpsc::Sender<Order>,
        shutdown: &CancellationToken,
    ) -> Result<Next, Error> {
        if !self.enrolled {
            return Ok(match self.enrol_once().await {
                Ok(_) => Next::Again,
                Err(Error::Enrol(refusal)) => self.after_refusal(&refusal),
                Err(error) => return Err(error),
            });
        }
        let Some(server) = self.servers.current().cloned() else { return Err(Error::NoServer) };
        let connection = tokio::select! {
            connection = self.dialer.connect(&server) => connection,
            () = shutdown.cancelled() => return Ok(Next::Stop),
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => return Ok(warn(&error)),
        };
        let certificates = connection.certificates();
        let (link, greeting) = match self.open_link(connection, buffer).await {
            Ok(open) => open,
            Err(next) => return Ok(next),
        };
        let welcome = match greeting {
            Greeting::Welcome(welcome) => welcome,
            Greeting::Rekey(rekey) => {
                return self.rekey(rekey, &server, buffer, done, orders).await;
            }
            Greeting::Bye(bye) => {
                tracing::warn!(%server, "sent away: {}{}", bye.reason, remedy(&bye.reason));
                return Ok(Next::After(Duration::from_millis(bye.retry_after_ms)));
            }
        };
        tracing::info!(%server, agent = %self.identity.agent_no, "linked");
        self.learn_cas(&welcome.server_cas, &server, &certificates);
        let session = Session { buffer, orders, limits: welcome.limits };
        let cas = |pem: &str| self.learn_cas(pem, &server, &certificates);
        match session.run(link, shutdown, cas).await {
            Ok(Closed::Shutdown) => Ok(Next::Stop),
            Ok(Closed::Server) => {
                tracing::info!(%server, "link closed by the server");
                Ok(Next::Failed)
            }
            Ok(Closed::RetryAfter(wait, reason)) => {
                tracing::info!(%server, "link closed by the server: {reason}");
                Ok(Next::After(wait))
            }
            Ok(Closed::Rekey(rekey)) => self.rekey(rekey, &server, buffer, done, orders).await,
            Err(link::Error::Buffer(error)) => Err(error.into()),
            Err(error) => {
                tracing::info!(%server, "link lost: {error}");
                Ok(Next::Failed)
            }
        }
    }

    pub(crate) async fn open_link(
        &self,
        connection: Connection,
        buffer: &Buffer,
    ) -> Result<(link::Link, Greeting), Next> {
        let opening = tokio::time::timeout(CONNECT_TIMEOUT, websocket(connection)).await;
        let mut link = match opening {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Err(warn(&error)),
            Err(_) => {
                tracing::warn!("the server does not open the link");
                return Err(Next::Failed);
            }
        };
        match greet(&mut link, &self.identity, buffer.first_waiting()).await {
            Ok(greeting) => Ok((link, greeting)),
            Err(error) => {
                tracing::warn!("not welcomed: {error}");
                Err(Next::Failed)
            }
        }
    }
}

fn warn(error: &(dyn std::error::Error + 'static)) -> Next {
    tracing::warn!("{}", chain(error));
    Next::Failed
}

/// What to do on this machine about a server's refusal, where there is something.
///
/// Refusals have no code, only words for people; other words cost the hint.
pub(crate) fn remedy(reason: &str) -> &'static str {
    match reason.contains("enrol again") {
        true => " (`muster agent leave` makes this machine forget that it was enrolled)",
        false => "",
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn who_was_removed_is_told_how_to_begin_anew() {
        for reason in [
            "removed by an administrator; enrol again to come back as a new agent",
            "unknown agent or wrong key; enrol again, with the data folder of this agent removed",
        ] {
            assert!(remedy(reason).contains("muster agent leave"), "{reason}");
        }
        assert_eq!(remedy("blocked by an administrator"), "");
    }
}
