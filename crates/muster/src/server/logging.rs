//! Logs and traces of this program, as they are configured.

use std::sync::Arc;

use anyhow::Context;
use muster_telemetry::logging::{Installed, LogOptions};
use muster_telemetry::ring::LogRing;
use muster_telemetry::trace::{TraceOptions, TraceStats, Traces};

pub use muster_telemetry::logging::LevelHandle;

use super::{names, program};
use crate::config::{Config, LogConfig, LogFormat};

/// Logs and traces of a server.
pub struct Telling {
    /// Changes the level.
    pub level: LevelHandle,
    /// What others show of them.
    pub told: Told,
    traces: Option<Traces>,
}

/// What logs and traces leave to be shown.
#[derive(Clone, Default)]
pub struct Told {
    /// The last lines.
    pub logs: LogRing,
    /// Counts of the exporter, where there is one.
    pub traces: Option<Arc<TraceStats>>,
}

impl Telling {
    /// Sends the last spans; in bounded time.
    pub fn end(self) {
        if let Some(traces) = self.traces {
            traces.stop();
        }
    }
}

/// Installs logging for the process, without traces.
///
/// # Errors
/// When the level is no filter, or logging was installed before.
pub fn install(config: &LogConfig) -> anyhow::Result<LevelHandle> {
    let logs = muster_telemetry::logging::install(&options(config), None);
    Ok(logs.context("install logging")?.level)
}

/// Installs logging for a server, and traces where there is a collector.
///
/// # Errors
/// As [`install`]; also when the collector's address is none.
pub fn install_server(config: &Config) -> anyhow::Result<Telling> {
    let instance = config.instance.name.clone().or_else(names::host_name);
    let start = |otlp: &String| {
        Traces::start(&TraceOptions {
            otlp: otlp.clone(),
            sample: config.telemetry.sample,
            instance: instance.clone().unwrap_or_else(|| "muster".into()),
            version: program::version(),
        })
    };
    let traces = config.telemetry.otlp.as_ref().map(start).transpose()?;
    let logs = muster_telemetry::logging::install(&options(&config.log), traces.as_ref());
    let Installed { level, ring } = logs.context("install logging")?;
    let told = Told { logs: ring, traces: traces.as_ref().map(Traces::stats) };
    Ok(Telling { level, told, traces })
}

fn options(config: &LogConfig) -> LogOptions {
    LogOptions { level: config.level.clone(), json: config.format == LogFormat::Json }
}
