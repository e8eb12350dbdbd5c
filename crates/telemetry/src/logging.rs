//! Logs: text for people or JSON for machines, on standard error; the level can change while running.
//!
//! Spans of this program are made for traces only (target [`crate::trace::TARGET`]). Logs do not ask
//! for them, so that without a collector a span costs one look at a static.

use std::io::IsTerminal;

use tracing_subscriber::filter::{FilterExt, FilterFn, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::ring::LogRing;
use crate::trace::{self, Traces};

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A level, or a filter such as `info,muster_stream=debug`.
    pub level: String,
    /// JSON for machines instead of text for people.
    pub json: bool,
}

/// Why logging could not be installed or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The level is none.
    #[error("log.level: {0:?} is no level; write error, warn, info, debug or trace")]
    Level(String),
    /// Something else is installed already.
    #[error("logging is installed already")]
    Installed,
}

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

/// What logging leaves behind for others to use.
#[derive(Debug)]
pub struct Installed {
    /// Changes the level.
    pub level: LevelHandle,
    /// The last lines.
    pub ring: LogRing,
}

/// Installs logging for the process, and spans when there is where to send them.
///
/// # Errors
/// [`Error`].
pub fn install(options: &LogOptions, traces: Option<&Traces>) -> Result<Installed, Error> {
    let (level, handle) = reload::Layer::new(filter(&options.level)?);
    let ring = LogRing::default();
    let kept = fmt::layer().with_ansi(false).with_target(true).with_writer(ring.clone());
    let shown = fmt::layer().with_writer(std::io::stderr);
    let logs = match options.json {
        true => shown.json().and_then(kept.boxed()).boxed(),
        false => {
            let shown = shown.with_target(false).with_ansi(std::io::stderr().is_terminal());
            shown.and_then(kept.boxed()).boxed()
        }
    };
    // Only the fmt layers' own filter may change: one around both keeps them the same.
    let logs = logs.with_filter(level.and(no_spans()));
    let spans = traces.map(|traces| traces.layer().with_filter(filter_fn(trace::is_ours)));
    tracing_subscriber::registry()
        .with(logs)
        .with(spans)
        .try_init()
        .map_err(|_| Error::Installed)?;
    Ok(Installed { level: LevelHandle(handle), ring })
}

impl LevelHandle {
    /// Applies another level.
    ///
    /// # Errors
    /// When it is no filter; the old one stays.
    pub fn set(&self, level: &str) -> Result<(), Error> {
        self.0.reload(filter(level)?).map_err(|_| Error::Level(level.to_owned()))
    }
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(level).map_err(|_| Error::Level(level.to_owned()))
}

/// Everything but spans that are there for traces.
fn no_spans() -> FilterFn {
    filter_fn(|metadata| !trace::is_ours(metadata))
}
