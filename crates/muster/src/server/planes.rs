//! Opening the four planes, each by its URL.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use muster_archive::Archive;
use muster_backup::Standing;
use muster_bus::local::LocalBus;
use muster_bus::nats::{HintKey, NatsBus};
use muster_bus::{Bus, CountedBus};
use muster_catalog::Catalog;
use muster_cluster::secrets::{self, Key};
use muster_stream::jetstream::JetStream;
use muster_stream::log::{Log, LogOptions};
use muster_stream::{MeasuredStream, Stream};
use muster_types::ArchiveAccess;

use super::nats::{self, NatsPlanes};
use super::program;
use crate::config::Config;
use crate::server::formats;

/// Hints a subscriber may lag behind before it gets a gap.
const BUS_CAPACITY: usize = 8192;

/// The name of what hints between instances are sealed with.
const HINT_KEY: &str = "bus/hint/1";

/// The four planes, open.
pub struct Planes {
    /// Small mutable facts; migrated.
    pub catalog: Catalog,
    /// Facts in flight.
    pub stream: Arc<MeasuredStream>,
    /// The embedded log behind the stream, when it is that.
    pub log: Option<Arc<Log>>,
    /// Facts at rest.
    pub archive: Archive,
    /// How they are reached, for the SQL child.
    pub archive_access: ArchiveAccess,
    /// Hints.
    pub bus: Arc<CountedBus>,
    /// The planes that are on NATS.
    pub nats: NatsPlanes,
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

/// How the archive is reached; reads the file with its secret.
///
/// # Errors
/// When that file cannot be read.
pub fn archive_access(config: &Config) -> anyhow::Result<ArchiveAccess> {
    let s3 = &config.archive.s3;
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("read the archive's secret {}", file.display()))?;
        anyhow::Ok(text.trim().to_owned())
    };
    Ok(ArchiveAccess {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone(),
        access_key_id: s3.access_key_id.clone(),
        secret_access_key: s3.secret_access_key_file.as_ref().map(read).transpose()?,
        allow_http: s3.allow_http,
        path_style: s3.path_style,
    })
}

/// Opens the archive. One that is behind HTTP is asked whether it keeps its promise; one that is away
/// is none to give up for.
///
/// # Errors
/// When it is none, or does not do what is needed.
pub async fn open_archive(config: &Config, access: &ArchiveAccess) -> anyhow::Result<Archive> {
    let url = archive_url(config);
    let archive = Archive::open_with(&url, access).context("open the archive")?;
    if !url.starts_with("file:") {
        match archive.probe().await {
            Ok(()) => {}
            Err(error @ muster_archive::Error::Unfit(_)) => {
                return Err(error).context(format!("open the archive {url}"));
            }
            Err(error) => tracing::warn!(%error, url, "the archive does not answer yet"),
        }
    }
    Ok(archive)
}

impl Planes {
    /// Opens all four and migrates the catalog; `key` seals the installation's secrets.
    ///
    /// # Errors
    /// With the plane and what to do about it.
    pub async fn open(config: &Config, key: &Key) -> anyhow::Result<Self> {
        let catalog = Catalog::open(&catalog_url(config), program::catalog_options(config))
            .await
            .context("open the catalog")?;
        formats::migrate(&catalog).await.context("migrate the catalog")?;
        let standing = Standing::read(&catalog).await.context("read the catalog")?;
        standing.check()?;
        let archive_access = archive_access(config)?;
        let archive = open_archive(config, &archive_access).await?;
        let (stream, log, jetstream) = open_stream(config, &standing).await?;
        let (bus, nats_bus) = open_bus(config, &catalog, key).await?;
        let bus = CountedBus::new(bus);
        let stream = MeasuredStream::new(stream);
        let nats = NatsPlanes { stream: jetstream, bus: nats_bus };
        Ok(Self { catalog, stream, log, archive, archive_access, bus, nats })
    }
}

async fn open_stream(
    config: &Config,
    standing: &Standing,
) -> anyhow::Result<(Arc<dyn Stream>, Option<Arc<Log>>, Option<Arc<JetStream>>)> {
    let url = config.stream.url.clone().unwrap_or_else(|| {
        format!("log://{}", absolute(&config.data_dir).join("stream").display())
    });
    if let Some(path) = url.strip_prefix("relay://") {
        return Ok((muster_stream::relay::Client::new(Path::new(path)), None, None));
    }
    if nats::is_nats(&url) {
        let stream = nats::open_stream(config, &url, standing).await?;
        return Ok((stream.clone(), None, Some(stream)));
    }
    let Some(dir) = url.strip_prefix("log://") else {
        bail!("stream.url: {url:?} is neither log://… nor nats://…")
    };
    let on_fatal = Arc::new(|problem: &str| {
        // The kernel may have dropped what was not written: only the disk knows the truth, and a new
        // process reads it from there.
        eprintln!("muster: the stream's log cannot be written: {problem}; ending at once");
        std::process::abort();
    });
    if muster_stream::log::is_new(Path::new(dir)).context("look at the stream's folder")?
        && let Some(floor) = standing.new_stream()?
    {
        muster_stream::log::begin_above(Path::new(dir), floor, &standing.shards)
            .context("begin a new stream")?;
    }
    let mut options = LogOptions::new(dir, stream_quota(config, Path::new(dir)), on_fatal);
    options.reserve_bytes = config.stream.reserve.0;
    let log = tokio::task::spawn_blocking(move || Log::open(options))
        .await
        .context("open the stream's log")?
        .context("open the stream's log")?;
    Ok((log.clone(), Some(log), None))
}

/// The configured quota, and never more than a quarter of the volume: draining needs disk too.
fn stream_quota(config: &Config, dir: &Path) -> u64 {
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or_else(|| Path::new("/"));
    let quarter = rustix::fs::statvfs(existing)
        .map_or(u64::MAX, |volume| volume.f_blocks.saturating_mul(volume.f_frsize) / 4);
    config.stream.quota.0.min(quarter)
}

async fn open_bus(
    config: &Config,
    catalog: &Catalog,
    key: &Key,
) -> anyhow::Result<(Arc<dyn Bus>, Option<Arc<NatsBus>>)> {
    if let Some(url) = nats::bus_url(config) {
        let key = hint_key(catalog, key).await?;
        let bus = nats::open_bus(config, url, key, BUS_CAPACITY).await?;
        return Ok((bus.clone(), Some(bus)));
    }
    if let Some(path) = config.bus.url.as_deref().and_then(|url| url.strip_prefix("relay://")) {
        return Ok((muster_bus::relay::Client::new(Path::new(path), BUS_CAPACITY), None));
    }
    Ok((LocalBus::new(BUS_CAPACITY), None))
}

/// What hints between instances are sealed with: one key for the installation.
async fn hint_key(catalog: &Catalog, key: &Key) -> anyhow::Result<HintKey> {
    let made = || rand::random::<[u8; 32]>().to_vec();
    let secret = secrets::get_or_create(catalog, key, HINT_KEY, made);
    let secret = secret.await.context("read the key of hints")?;
    let secret =
        secret.as_slice().try_into().context("the key of hints in the catalog is damaged")?;
    Ok(HintKey::new(secret))
}

/// The data folder as other processes must name it.
fn absolute(dir: &Path) -> std::path::PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())
}
