//! `muster migrate-store`: an installation into other stores.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use muster_backup::{Relocation, Standing, Target};
use muster_catalog::{Catalog, Options};
use muster_stream::{ReadError, Stream};
use muster_types::{Clock, Pos, Shard, SystemClock};

use super::args::ServerArgs;
use super::backup::{Stores, archive, beside, bring_key, exists, failed};
use crate::client::{CliError, Exit};
use crate::config::{Config, RoleName};
use crate::server::logging::Told;
use crate::server::planes::{archive_url, catalog_url};
use crate::server::runtimes::Runtimes;
use crate::server::{self, Server, identity, logging, secret_key_file};

/// Nothing came for this long, and again: the stream is empty.
const QUIET: Duration = Duration::from_secs(1);
/// The stream is looked at again so many times after its worker has ended.
const DRAINS_MAX: u32 = 5;

/// `muster migrate-store …`.
#[derive(Args)]
pub struct MigrateStore {
    /// The installation as it is; it must be stopped.
    #[command(flatten)]
    from: Stores,
    /// Configuration file that names the new stores, which must be empty.
    #[arg(long)]
    to_config: PathBuf,
}

/// Runs it: drains the stream, copies catalog and archive, compares them, marks the old ones.
pub fn run(args: &MigrateStore) -> Result<(), CliError> {
    let from = args.from.load()?;
    let to_args = ServerArgs { config: Some(args.to_config.clone()), ..ServerArgs::default() };
    let to = super::config::load(&to_args)?;
    exists(&from)?;
    if catalog_url(&from) == catalog_url(&to) {
        return Err(CliError::usage("both configurations name the same catalog"));
    }
    if !left(&from)? {
        drain_all(&from)?;
    }
    identity::prepare_data_dir(&to.data_dir)?;
    bring_key(&secret_key_file(&from), &secret_key_file(&to))?;
    let done = beside(relocate(&from, &to))?;
    match done {
        Relocation::Before => eprintln!("it was moved before; start it with the new configuration"),
        Relocation::Done(filled) => {
            eprintln!(
                "moved: {} tables with {} rows, {} objects with {} bytes; all compared",
                filled.tables, filled.rows, filled.objects, filled.bytes
            );
            eprintln!(
                "start it with {}; the old stores are left as they are",
                args.to_config.display()
            );
            if !filled.missing.is_empty() {
                let message = format!("{} objects were lost before the move", filled.missing.len());
                return Err(CliError::new(Exit::Refused, message));
            }
        }
    }
    Ok(())
}

async fn relocate(from: &Config, to: &Config) -> Result<Relocation, CliError> {
    let open = async |config: &Config, which: &str| {
        let catalog = Catalog::open(&catalog_url(config), Options::default()).await;
        catalog.with_context(|| format!("open the {which} catalog"))
    };
    let (old, new) = (open(from, "old").await?, open(to, "new").await?);
    old.migrate().await.context("migrate the old catalog")?;
    let same = archive_url(from) == archive_url(to);
    let target =
        Target { catalog: new.clone(), archive: if same { None } else { Some(archive(to)?) } };
    let name = redacted(&catalog_url(to));
    let done = muster_backup::relocate(&old, &archive(from)?, &target, &name).await;
    new.close().await;
    old.close().await;
    done.map_err(failed)
}

/// A catalog's URL without what is between `//` and `@`.
fn redacted(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}://…{}", &url[..scheme], &url[at..])
        }
        _ => url.to_owned(),
    }
}

/// Whether the old catalog was left by a run that only did not get to say so.
fn left(from: &Config) -> Result<bool, CliError> {
    beside(async {
        let catalog = Catalog::open(&catalog_url(from), Options::default())
            .await
            .context("open the old catalog; it must be stopped")?;
        catalog.migrate().await.context("migrate the old catalog")?;
        let left = Standing::read(&catalog).await.map_err(failed)?.check().is_err();
        catalog.close().await;
        Ok(left)
    })
}

/// Folds everything that is in the old stream, by a worker that nobody can reach.
fn drain_all(from: &Config) -> Result<(), CliError> {
    let mut config = from.clone();
    config.roles = vec![RoleName::Worker];
    let loopback = "127.0.0.1:0".parse().map_err(|_| CliError::usage("no loopback listener"))?;
    config.listeners.operators = loopback;
    config.listeners.agents = config.listeners.operators.clone();
    config.listeners.metrics = config.listeners.operators.clone();
    let level = logging::install(&config.log)?;
    for _ in 0..DRAINS_MAX {
        let runtimes = Runtimes::new()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let server =
            runtimes.work.block_on(Server::build(config.clone(), clock, Told::default()))?;
        let (catalog, stream) = (server.catalog().clone(), server.stream());
        if runtimes.work.block_on(is_drained(&catalog, &*stream))? {
            return Ok(());
        }
        let again = || Ok(config.clone());
        server::run(server, &runtimes, level.clone(), again, |_| async move {
            while !matches!(is_drained(&catalog, &*stream).await, Ok(true) | Err(_)) {}
            // The server ends as it always does: folded rows are committed, leases let go.
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::TERM);
        })?;
    }
    Err(CliError::new(
        Exit::Refused,
        "the stream does not become empty; is anything writing to it?",
    ))
}

/// Whether nothing is in the stream that is not folded. Takes two seconds to say yes.
async fn is_drained(catalog: &Catalog, stream: &dyn Stream) -> anyhow::Result<bool> {
    for _ in 0..2 {
        let standing = Standing::read(catalog).await?;
        let folded = |shard| standing.shards.iter().find(|(known, _)| *known == shard);
        let after = Shard::all().map(|s| (s, folded(s).map_or(Pos(0), |(_, pos)| *pos))).collect();
        let mut reader = match stream.reader(after).await {
            Ok(reader) => reader,
            Err(error @ ReadError::TrimmedBelow { .. }) => {
                bail!("{error}; `muster shard skip` moves it on")
            }
            Err(error) => return Err(error.into()),
        };
        if let Ok(next) = tokio::time::timeout(QUIET, reader.next(1)).await {
            next?;
            tokio::time::sleep(QUIET / 2).await;
            return Ok(false);
        }
    }
    Ok(true)
}
