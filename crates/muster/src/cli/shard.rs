//! `muster shard …`: where the folding of the stream stands, and moving it on when records are gone.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use muster_backup::shards;
use muster_catalog::{Catalog, Options};
use muster_types::{Pos, Shard};
use serde_json::json;

use super::backup::{Stores, beside, exists, failed};
use super::output::{Format, Printer};
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
pub fn run(command: ShardCommand, format: Format) -> Result<(), CliError> {
    match command {
        ShardCommand::List { stores } => list(&stores, format),
        ShardCommand::Skip(skip) => give_up(&skip),
    }
}

fn list(stores: &Stores, format: Format) -> Result<(), CliError> {
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
    let columns = ["shard", "state", "above", "up_to", "made_by", "reason"];
    let mut printer = Printer::new(format, std::io::stdout().lock(), &columns);
    let folded = all.iter().map(|info| {
        json!({"shard": info.shard.get(), "state": "folded", "above": null, "up_to": info.pos.0,
            "made_by": null, "reason": null})
    });
    let lost = gaps.iter().map(|gap| {
        json!({"shard": gap.shard.get(), "state": "lost", "above": gap.from.0, "up_to": gap.to.0,
            "made_by": gap.made_by, "reason": gap.reason})
    });
    for row in folded.chain(lost) {
        printer.row(row.as_object().cloned().unwrap_or_default())?;
    }
    Ok(printer.finish()?)
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
            eprintln!("{gaps} shards have a gap now; a new stream begins with the next start");
        } else {
            let shard = skip.shard.and_then(Shard::new);
            let shard = shard.ok_or_else(|| CliError::usage("shards are numbered 0 to 63"))?;
            let to = Pos(skip.to.unwrap_or_default());
            let gap = shards::skip(&catalog, shard, to, &by, &skip.reason).await.map_err(failed)?;
            eprintln!(
                "shard {shard} goes on above {}; lost are positions above {}",
                gap.to, gap.from
            );
        }
        catalog.close().await;
        Ok(())
    })
}
