//! `muster shard …`: where the folding of the stream stands, and moving it on when records are gone.

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use muster_backup::shards;
use muster_catalog::{Catalog, Options};
use muster_types::{Pos, Shard};

use super::backup::{Stores, beside, exists, failed};
use crate::client::{CliError, Exit};
use crate::server::planes::catalog_url;

/// `muster shard …`.
#[derive(Subcommand)]
pub enum ShardCommand {
    /// How far each shard is folded, and what is lost of it.
    List {
        /// Whose.
        #[command(flatten)]
        stores: Stores,
    },
    /// Move a shard on whose records are gone from the stream, and record what is lost.
    Skip(Skip),
}

/// What is given up.
#[derive(Args)]
pub struct Skip {
    /// The shard.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    shard: Option<u8>,
    /// The last position that is lost: the one before the oldest that the server's log says is kept.
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    to: Option<u64>,
    /// The whole stream is gone for good: let a new one begin.
    #[arg(long)]
    all: bool,
    /// Why, for whoever finds the gap.
    #[arg(long)]
    reason: String,
    /// Whose.
    #[command(flatten)]
    stores: Stores,
}

/// Runs `muster shard …`.
pub fn run(command: ShardCommand) -> Result<(), CliError> {
    match command {
        ShardCommand::List { stores } => list(&stores),
        ShardCommand::Skip(skip) => give_up(&skip),
    }
}

fn list(stores: &Stores) -> Result<(), CliError> {
    let config = stores.load()?;
    exists(&config)?;
    let (all, gaps) = beside(async {
        let catalog = Catalog::open_read_only(&catalog_url(&config)).await;
        let catalog = catalog.context("open the catalog")?;
        let all = shards::list(&catalog).await.map_err(failed)?;
        let gaps = shards::gaps(&catalog).await.map_err(failed)?;
        catalog.close().await;
        Ok((all, gaps))
    })?;
    let mut out = std::io::stdout().lock();
    for info in all {
        writeln!(out, "shard {:>2}  folded up to {}", info.shard.get(), info.pos)?;
    }
    for gap in gaps {
        let (shard, from, to) = (gap.shard.get(), gap.from, gap.to);
        let (by, reason) = (gap.made_by, gap.reason);
        writeln!(out, "shard {shard:>2}  lost above {from} up to {to}, by {by}: {reason}")?;
    }
    Ok(())
}

fn give_up(skip: &Skip) -> Result<(), CliError> {
    let config = skip.stores.load()?;
    exists(&config)?;
    let by = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    beside(async {
        let opened = Catalog::open(&catalog_url(&config), Options::default()).await;
        let catalog = opened.map_err(|error| {
            CliError::new(Exit::Refused, format!("{error}; stop the server first"))
        })?;
        catalog.migrate().await.context("migrate the catalog")?;
        if skip.all {
            let gaps = shards::give_up_stream(&catalog, &by, &skip.reason).await.map_err(failed)?;
            println!("{gaps} shards have a gap now; a new stream begins with the next start");
        } else {
            let shard = skip.shard.and_then(Shard::new);
            let shard = shard.ok_or_else(|| CliError::usage("shards are numbered 0 to 63"))?;
            let to = Pos(skip.to.unwrap_or_default());
            let gap = shards::skip(&catalog, shard, to, &by, &skip.reason).await.map_err(failed)?;
            println!(
                "shard {shard} goes on above {}; lost are positions above {}",
                gap.to, gap.from
            );
        }
        catalog.close().await;
        Ok(())
    })
}
