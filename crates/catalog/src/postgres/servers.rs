//! Which server is the primary, and whether there is one at all.
//!
//! A call that gets no answer says nothing about why: the statement may be slow, or the server may be
//! stopped, cut off or dead. So whoever waits for longer than [`Options::suspect_after`] asks the server
//! for a sign of life over a new connection. Without one in [`Options::probe_timeout`] the primary counts
//! as gone: every call that waits for it ends, its pool is given up, and later calls fail at once, but for
//! one that looks for a primary among all servers, four times a second at most. No task runs for this:
//! who calls, looks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgPool, Row as _};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::Instant;

use super::failure::Failure;
use super::hosts::Host;
use crate::{Error, Options};

/// Between two looks for a primary while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long to wait for a connection of the pool at most.
const ACQUIRE_MAX: Duration = Duration::from_secs(4);
/// How long closing waits for calls to end.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Which servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The one that takes writes.
    Primary,
    /// Any that answers.
    Any,
}

/// The servers of one URL.
#[derive(Debug)]
pub(super) struct Servers {
    hosts: Vec<Host>,
    wanted: Wanted,
    options: Options,
    state: watch::Sender<State>,
    /// Held by the one that looks; when the last look ended.
    looking: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
enum State {
    Up(Arc<Up>),
    /// With the reason.
    Down(Arc<str>),
    Closed,
}

/// The server in use and its pool. After a loss there is a new one, even for the same server.
#[derive(Debug)]
pub(super) struct Up {
    host: usize,
    pool: PgPool,
    lost: watch::Sender<bool>,
}

impl Up {
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    async fn lost(&self) {
        // The sender lives as long as this does.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// Ends all calls that wait; connections that come back are closed, not kept.
    fn give_up(&self) {
        drop(self.pool.close());
        self.lost.send_replace(true);
    }
}

/// What a server answered.
enum Sign {
    /// It is what is wanted; with its timeline, which a promotion raises.
    Good(u32),
    /// It lives, and has no connection to spare: no reason to leave it, none to choose it.
    Busy,
    /// It follows another one.
    Follows,
    /// No connection; with the reason.
    None(Error),
}

impl Servers {
    pub(super) fn new(hosts: Vec<Host>, wanted: Wanted, options: &Options) -> Self {
        let state = watch::Sender::new(State::Down("not connected yet".into()));
        Self { hosts, wanted, options: options.clone(), state, looking: Mutex::new(None) }
    }

    /// The first connection; unlike later ones it tells a mistake of the configuration from an outage.
    pub(super) async fn open(&self) -> Result<(), Error> {
        let mut looking = self.looking.lock().await;
        let found = self.look(&mut looking).await;
        found.map(drop).map_err(|reasons| reasons.mistake())
    }

    /// The server in use. Where there is none, one caller looks for it and the others fail at once.
    pub(super) async fn up(&self) -> Result<Arc<Up>, Error> {
        let why = match &*self.state.borrow() {
            State::Up(up) => return Ok(up.clone()),
            State::Closed => return Err(Error::closed()),
            State::Down(why) => why.clone(),
        };
        match self.looking.try_lock() {
            Ok(mut looking) if looking.is_none_or(|at| at.elapsed() >= LOOK_EVERY) => {
                self.look(&mut looking).await.map_err(|reasons| reasons.outage())
            }
            _ => Err(Error::Unavailable(why.to_string())),
        }
    }

    /// Whether there is a server just now, as far as is known.
    pub(super) fn pool_now(&self) -> crate::Pool {
        let state = self.state.borrow();
        let State::Up(up) = &*state else { return crate::Pool::default() };
        crate::Pool {
            open: up.pool.size(),
            idle: u32::try_from(up.pool.num_idle()).unwrap_or(u32::MAX),
            allowed: up.pool.options().get_max_connections(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Runs a call against `up`, and ends it when that server is lost or after `most`.
    pub(super) async fn watched<T>(
        &self,
        up: &Up,
        most: Duration,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if up.is_lost() {
            return Err(Failure::lost("the connection was lost"));
        }
        let doubt = async {
            loop {
                tokio::time::sleep(self.options.suspect_after).await;
                if let Err(error) = self.confirm(up).await {
                    return Failure { error, lost: true };
                }
            }
        };
        let failure = tokio::select! {
            biased;
            result = call => match result {
                Err(failure) if failure.lost => failure,
                other => return other,
            },
            () = up.lost() => return Err(Failure::lost("the server went away")),
            failure = doubt => return Err(failure),
            () = tokio::time::sleep(most) => {
                return Err(Error::Unavailable("no answer in time".to_owned()).into());
            }
        };
        // Only this connection, or the server? Whoever calls next should not have to find out.
        if let Err(error) = self.confirm(up).await {
            tracing::debug!(%error, "the catalog's server was lost");
        }
        Err(failure)
    }

    /// Asks whether `up` is still what is wanted. Of those that ask at the same time one looks.
    async fn confirm(&self, up: &Up) -> Result<(), Error> {
        let came = Instant::now();
        let mut looking = self.looking.lock().await;
        if up.is_lost() {
            return Err(Error::Unavailable("the server went away".to_owned()));
        }
        if looking.is_some_and(|at| at > came) {
            return Ok(());
        }
        let found = self.look(&mut looking).await.map_err(|reasons| reasons.outage())?;
        if std::ptr::eq(&raw const *found, up) {
            return Ok(());
        }
        Err(Error::Unavailable("another server has become the primary".to_owned()))
    }

    /// Asks all servers at once and changes the state by their answers. The one in use stays as long as
    /// it lives, is what is wanted, and no other was promoted after it: of two that take writes the older
    /// one is a leftover, whose writes nobody will see.
    async fn look(
        &self,
        looking: &mut MutexGuard<'_, Option<Instant>>,
    ) -> Result<Arc<Up>, Reasons> {
        let signs = join_all(self.hosts.iter().map(|host| self.ask(&host.connect))).await;
        **looking = Some(Instant::now());
        let current = match &*self.state.borrow() {
            State::Up(up) => Some(up.clone()),
            State::Down(_) => None,
            State::Closed => return Err(Reasons(vec![(String::new(), Error::closed())])),
        };
        let best = best(&signs);
        if let Some(up) = &current {
            let stays = match (signs.get(up.host), best) {
                (Some(Sign::Busy), _) => true,
                (Some(Sign::Good(timeline)), Some((_, newest))) => *timeline >= newest,
                _ => false,
            };
            if stays {
                return Ok(up.clone());
            }
            up.give_up();
        }
        let Some((host, _)) = best else {
            let reasons = self.reasons(signs);
            let error = reasons.outage();
            if current.is_some() {
                tracing::warn!(%error, "the catalog is away");
            }
            self.set(State::Down(error.to_string().into()));
            return Err(reasons);
        };
        let server = &self.hosts[host].name;
        match current {
            Some(_) => tracing::warn!(server, "the catalog has another server"),
            None => tracing::info!(server, "the catalog is there"),
        }
        let up = Arc::new(self.connected(host));
        self.set(State::Up(up.clone()));
        Ok(up)
    }

    /// Once closed it stays so.
    fn set(&self, state: State) {
        self.state.send_if_modified(|current| {
            let open = !matches!(current, State::Closed);
            if open {
                *current = state;
            }
            open
        });
    }

    fn connected(&self, host: usize) -> Up {
        let pool = PgPoolOptions::new()
            .max_connections(self.options.connections_max)
            .acquire_timeout(self.options.acquire_timeout.min(ACQUIRE_MAX))
            .connect_lazy_with(self.hosts[host].connect.clone());
        Up { host, pool, lost: watch::Sender::new(false) }
    }

    fn reasons(&self, signs: Vec<Sign>) -> Reasons {
        let away = |why: &str| Error::Unavailable(why.to_owned());
        let reason = |sign| match sign {
            Sign::Follows => away("it is a standby"),
            Sign::Good(_) | Sign::Busy => away("it has no connection to spare"),
            Sign::None(error) => error,
        };
        let names = self.hosts.iter().map(|host| host.name.clone());
        Reasons(names.zip(signs.into_iter().map(reason)).collect())
    }

    async fn ask(&self, connect: &PgConnectOptions) -> Sign {
        let answer = async {
            let mut connection = connect.connect().await?;
            let timeline = timeline(&mut connection).await;
            // A server that answered takes a farewell at once.
            let _ = connection.close().await;
            timeline
        };
        match tokio::time::timeout(self.options.probe_timeout, answer).await {
            Ok(Ok(None)) if self.wanted == Wanted::Primary => Sign::Follows,
            Ok(Ok(timeline)) => Sign::Good(timeline.unwrap_or(0)),
            Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some("53300") => {
                Sign::Busy
            }
            Ok(Err(error)) => Sign::None(Error::of("connect", &error)),
            Err(_) => Sign::None(Error::Unavailable("it does not answer".to_owned())),
        }
    }

    /// Ends what waits and closes the connections. Later calls fail.
    pub(super) async fn close(&self) {
        let before = self.state.send_replace(State::Closed);
        if let State::Up(up) = before {
            if tokio::time::timeout(CLOSE_MAX, up.pool.close()).await.is_err() {
                tracing::debug!("calls of the catalog did not end in time and are dropped");
            }
            up.give_up();
        }
    }
}

/// The server that was promoted last, among those that will do; the first of several.
fn best(signs: &[Sign]) -> Option<(usize, u32)> {
    let good = signs.iter().enumerate().rev().filter_map(|(at, sign)| match sign {
        Sign::Good(timeline) => Some((at, *timeline)),
        _ => None,
    });
    good.max_by_key(|(_, timeline)| *timeline)
}

/// The timeline of a primary; a standby has none of its own.
async fn timeline(connection: &mut PgConnection) -> Result<Option<u32>, sqlx::Error> {
    const TIMELINE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL
        ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
    let row = connection.fetch_one(sqlx::raw_sql(TIMELINE)).await?;
    let text: Option<String> = row.try_get(0)?;
    Ok(text.map(|text| u32::from_str_radix(&text, 16).unwrap_or(0)))
}

/// Why no server will do, by name.
struct Reasons(Vec<(String, Error)>);

impl Reasons {
    /// While running: it may pass by itself, whatever it is.
    fn outage(&self) -> Error {
        let said: Vec<_> =
            self.0.iter().map(|(name, error)| format!("{name}: {}", bare(error))).collect();
        Error::Unavailable(said.join("; "))
    }

    /// At the start: a mistake, such as a wrong password, is told as one.
    fn mistake(&self) -> Error {
        let mistake = self.0.iter().map(|(_, error)| error).find(|error| !error.is_retryable());
        mistake.cloned().unwrap_or_else(|| self.outage())
    }
}

/// Without the words that every outage begins with.
fn bare(error: &Error) -> String {
    match error {
        Error::Unavailable(why) => why.clone(),
        other => other.to_string(),
    }
}
