//! Opening the four planes, each by its URL.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use muster_archive::Archive;
use muster_bus::local::LocalBus;
use muster_bus::{Bus, CountedBus};
use muster_catalog::{Catalog, Options};
use muster_stream::Stream;
use muster_stream::log::{Log, LogOptions};

use crate::config::Config;

/// Hints a subscriber may lag behind before it gets a gap.
const BUS_CAPACITY: usize = 8192;

/// The four planes, open.
pub struct Planes {
    /// Small mutable facts; migrated.
    pub catalog: Catalog,
    /// Facts in flight.
    pub stream: Arc<dyn Stream>,
    /// The embedded log behind the stream, when it is that.
    pub log: Option<Arc<Log>>,
    /// Facts at rest.
    pub archive: Archive,
    /// Hints.
    pub bus: Arc<CountedBus>,
}

/// The catalog's URL: the configured one, or SQLite in the data folder.
pub fn catalog_url(config: &Config) -> String {
    let embedded =
        || format!("sqlite://{}", absolute(&config.data_dir).join("catalog.db").display());
    config.catalog.url.clone().unwrap_or_else(embedded)
}

/// The archive's URL: the configured one, or a folder in the data folder.
pub fn archive_url(config: &Config) -> String {
    let embedded = || format!("file://{}", absolute(&config.data_dir).join("archive").display());
    config.archive.url.clone().unwrap_or_else(embedded)
}

impl Planes {
    /// Opens all four and migrates the catalog.
    ///
    /// # Errors
    /// With the plane and what to do about it.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let catalog = Catalog::open(&catalog_url(config), Options::default())
            .await
            .context("open the catalog")?;
        catalog.migrate().await.context("migrate the catalog")?;
        let archive = Archive::open(&archive_url(config)).context("open the archive")?;
        let (stream, log) = open_stream(config).await?;
        let bus = CountedBus::new(open_bus(config));
        Ok(Self { catalog, stream, log, archive, bus })
    }
}

async fn open_stream(config: &Config) -> anyhow::Result<(Arc<dyn Stream>, Option<Arc<Log>>)> {
    let url = config.stream.url.clone().unwrap_or_else(|| {
        format!("log://{}", absolute(&config.data_dir).join("stream").display())
    });
    if let Some(path) = url.strip_prefix("relay://") {
        return Ok((muster_stream::relay::Client::new(Path::new(path)), None));
    }
    let Some(dir) = url.strip_prefix("log://") else {
        bail!("stream.url: {url:?} is not log://…")
    };
    let on_fatal = Arc::new(|problem: &str| {
        // The kernel may have dropped what was not written: only the disk knows the truth, and a new
        // process reads it from there.
        eprintln!("muster: the stream's log cannot be written: {problem}; ending at once");
        std::process::abort();
    });
    let mut options = LogOptions::new(dir, stream_quota(config, Path::new(dir)), on_fatal);
    options.reserve_bytes = config.stream.reserve.0;
    let log = tokio::task::spawn_blocking(move || Log::open(options))
        .await
        .context("open the stream's log")?
        .context("open the stream's log")?;
    Ok((log.clone(), Some(log)))
}

/// The configured quota, and never more than a quarter of the volume: draining needs disk too.
fn stream_quota(config: &Config, dir: &Path) -> u64 {
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or_else(|| Path::new("/"));
    let quarter = rustix::fs::statvfs(existing)
        .map_or(u64::MAX, |volume| volume.f_blocks.saturating_mul(volume.f_frsize) / 4);
    config.stream.quota.0.min(quarter)
}

fn open_bus(config: &Config) -> Arc<dyn Bus> {
    if let Some(path) = config.bus.url.strip_prefix("relay://") {
        return muster_bus::relay::Client::new(Path::new(path), BUS_CAPACITY);
    }
    LocalBus::new(BUS_CAPACITY)
}

/// The data folder as other processes must name it.
fn absolute(dir: &Path) -> std::path::PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}
