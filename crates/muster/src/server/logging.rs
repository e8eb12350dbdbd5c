//! Logs: text for people or JSON for machines, on standard error; the level can change while running.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Changes the level of a running process.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

/// Installs logging for the process.
///
/// # Errors
/// When the level is no filter, or logging was installed before.
pub fn install(config: &LogConfig) -> anyhow::Result<LevelHandle> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => {
            let text = fmt::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(text.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
    }
    .context("install logging")?;
    Ok(LevelHandle(handle))
}

impl LevelHandle {
    /// Applies another level.
    ///
    /// # Errors
    /// When it is no filter; the old one stays.
    pub fn set(&self, level: &str) -> anyhow::Result<()> {
        self.0.reload(filter(level)?).context("change the log level")
    }
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| {
        format!("log.level: {level:?} is no level; write error, warn, info, debug or trace")
    })
}
