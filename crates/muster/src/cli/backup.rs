//! `muster backup` and `muster restore`: copies of the stores, beside them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use muster_archive::Archive;
use muster_backup::{Manifest, TakeOptions, Target};
use muster_catalog::{Catalog, Options};
use serde_json::{Value, json};

use super::args::ServerArgs;
use super::output::{Format, Printer};
use super::session::{confirm, object};
use crate::client::{CliError, Exit};
use crate::config::Config;
use crate::server::planes::{archive_access, archive_url, catalog_url};
use crate::server::{identity, secret_key_file};

/// `muster backup …`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    /// What else to do with backups.
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// A backup to be taken.
    #[command(flatten)]
    take: Take,
}

#[derive(Args)]
struct Take {
    /// Folder of backups. Objects that are in it already are not copied again.
    #[arg(required = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    stores: Stores,
    /// Put the key that opens the secrets into the backup too: whoever has it can be the server.
    #[arg(long)]
    with_secret_key: bool,
}

#[derive(Subcommand)]
enum BackupCommand {
    /// Read everything in a backup and compare it with what the backup says of itself.
    Verify {
        /// Folder of backups.
        dir: PathBuf,
        /// Which one; default the newest.
        #[arg(long)]
        backup: Option<String>,
    },
    /// List the backups in a folder.
    List {
        /// Folder of backups.
        dir: PathBuf,
    },
    /// Remove old backups, and the objects that no other needs.
    Prune(Prune),
}

#[derive(Args)]
struct Prune {
    /// Folder of backups.
    dir: PathBuf,
    /// Keep so many, the newest.
    #[arg(long, value_name = "N")]
    keep: NonZeroUsize,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Whose stores.
#[derive(Args, Clone)]
pub struct Stores {
    /// Configuration file of the installation.
    #[arg(long, short = 'c', env = "MUSTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Its data folder.
    #[arg(long)]
    pub data: Option<PathBuf>,
}

impl Stores {
    /// Their configuration.
    pub fn load(&self) -> Result<Config, CliError> {
        let (config, data) = (self.config.clone(), self.data.clone());
        super::config::load(&ServerArgs { config, data, names: Vec::new() })
    }
}

/// `muster restore …`.
#[derive(Args)]
pub struct Restore {
    /// Folder of backups.
    dir: PathBuf,
    /// Which one; default the newest.
    #[arg(long)]
    backup: Option<String>,
    #[command(flatten)]
    stores: Stores,
}

/// Runs work beside the stores. Files that are made are for their owner only.
pub fn beside<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work)
}

/// An error of a copy, with its causes.
pub fn failed(error: muster_backup::Error) -> CliError {
    CliError::new(Exit::Refused, format!("{:#}", anyhow::Error::from(error)))
}

/// The archive of a configuration.
pub fn archive(config: &Config) -> Result<Archive, CliError> {
    let access = archive_access(config)?;
    Ok(Archive::open_with(&archive_url(config), &access).context("open the archive")?)
}

/// Runs `muster backup …`.
pub fn run(command: Backup, format: Format) -> Result<(), CliError> {
    match command.command {
        None => take(command.take, format),
        Some(BackupCommand::Verify { dir, backup }) => {
            let (manifest, done) =
                muster_backup::verify(&dir, backup.as_deref()).map_err(failed)?;
            eprintln!(
                "{}: {} tables with {} rows and {} objects with {} bytes are as they were",
                manifest.id, done.tables, done.rows, done.objects, done.bytes
            );
            missing(&manifest)
        }
        Some(BackupCommand::List { dir }) => list(&dir, format),
        Some(BackupCommand::Prune(args)) => prune(&args, format),
    }
}

fn list(dir: &Path, format: Format) -> Result<(), CliError> {
    let columns = ["id", "taken_at", "program", "rows", "objects", "bytes", "missing"];
    let mut printer = Printer::new(format, std::io::stdout().lock(), &columns);
    for manifest in muster_backup::backups(dir).map_err(failed)? {
        printer.row(row(&manifest).as_object().cloned().unwrap_or_default())?;
    }
    Ok(printer.finish()?)
}

fn row(manifest: &Manifest) -> Value {
    let taken_at = jiff::Timestamp::from_microsecond(manifest.taken_at).unwrap_or_default();
    json!({
        "id": manifest.id,
        "taken_at": taken_at.to_string(),
        "program": manifest.program,
        "rows": manifest.rows(),
        "objects": manifest.objects.count,
        "bytes": manifest.objects.bytes,
        "missing": manifest.objects.missing_count,
    })
}

fn prune(args: &Prune, format: Format) -> Result<(), CliError> {
    let keep = args.keep.get();
    let gone = muster_backup::surplus(&args.dir, keep).map_err(failed)?;
    if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
        let (count, first, last) = (gone.len(), &first.id, &last.id);
        confirm(&format!("Remove {count} backups, {first} to {last}?"), args.yes)?;
    }
    // Also when there are none: a run before may have been cut off.
    let pruned = muster_backup::prune(&args.dir, keep).map_err(failed)?;
    let (backups, objects, bytes) = (pruned.backups.len(), pruned.objects, pruned.bytes);
    eprintln!("removed {backups} backups and {objects} objects with {bytes} bytes");
    if format != Format::Table {
        let removed = json!({"backups": pruned.backups, "objects": objects, "bytes": bytes});
        return object(format, &removed);
    }
    for id in &pruned.backups {
        println!("{id}");
    }
    Ok(())
}

fn take(take: Take, format: Format) -> Result<(), CliError> {
    let config = take.stores.load()?;
    let dir = take.dir.ok_or_else(|| CliError::usage("give a folder for backups"))?;
    exists(&config)?;
    let key = secret_key_file(&config);
    let options = TakeOptions {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        secret_key: take.with_secret_key.then(|| key.clone()),
    };
    let archive = archive(&config)?;
    let manifest = beside(async {
        let catalog =
            Catalog::open_beside(&catalog_url(&config)).await.context("open the catalog")?;
        let taken = muster_backup::take(&catalog, &archive, &dir, &options).await;
        catalog.close().await;
        taken.map_err(failed)
    })?;
    let objects = &manifest.objects;
    eprintln!(
        "{}: {} rows, {} objects with {} bytes, of which {} were new",
        manifest.id,
        manifest.rows(),
        objects.count,
        objects.bytes,
        objects.copied
    );
    if !manifest.secret_key {
        eprintln!(
            "keep {} too, apart from it: without it the secrets cannot be opened",
            key.display()
        );
    }
    if format != Format::Table {
        object(format, &row(&manifest))?;
    }
    missing(&manifest)
}

/// A backup without objects that were lost before is as good as can be, and no success.
fn missing(manifest: &Manifest) -> Result<(), CliError> {
    let objects = &manifest.objects;
    if objects.missing_count == 0 {
        return Ok(());
    }
    let some = objects.missing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let message = format!(
        "{} objects that the catalog refers to are not in the archive: {some} …",
        objects.missing_count
    );
    Err(CliError::new(Exit::Refused, message))
}

/// Refuses to look for a catalog that would only be made.
pub fn exists(config: &Config) -> Result<(), CliError> {
    if config.catalog.url.is_none() && !config.data_dir.join("catalog.db").is_file() {
        let folder = config.data_dir.display();
        let message = format!("{folder} holds no catalog; give --config or --data of the server");
        return Err(CliError::usage(message));
    }
    Ok(())
}

/// Runs `muster restore …`.
pub fn restore(args: &Restore) -> Result<(), CliError> {
    let config = args.stores.load()?;
    identity::prepare_data_dir(&config.data_dir)?;
    let archive = archive(&config)?;
    let (manifest, filled) = beside(async {
        let catalog = Catalog::open(&catalog_url(&config), Options::default())
            .await
            .context("open the catalog to be filled")?;
        let target = Target { catalog: catalog.clone(), archive: Some(archive) };
        let done = muster_backup::restore(&args.dir, args.backup.as_deref(), &target).await;
        catalog.close().await;
        done.map_err(failed)
    })?;
    eprintln!(
        "restored {}: {} tables with {} rows, {} objects with {} bytes; all compared",
        manifest.id, filled.tables, filled.rows, filled.objects, filled.bytes
    );
    let to = secret_key_file(&config);
    if manifest.secret_key {
        let from = args.dir.join("backups").join(&manifest.id).join("secret.key");
        bring_key(&from, &to)?;
    } else if !to.is_file() {
        eprintln!(
            "before it is started, put the secret key of the installation at {}",
            to.display()
        );
    }
    eprintln!(
        "what was acknowledged after the backup is not in it: `muster shard list` shows the gaps"
    );
    Ok(())
}

/// Puts the key of the secrets where the configuration wants it. One that is there must be the same.
pub fn bring_key(from: &Path, to: &Path) -> Result<(), CliError> {
    let key = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
    match std::fs::read(to) {
        Ok(there) if there == key => Ok(()),
        Ok(_) => Err(CliError::new(
            Exit::Refused,
            format!(
                "{} is the key of another installation; put {} there instead",
                to.display(),
                from.display()
            ),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(identity::write_private(to, &key)?)
        }
        Err(error) => Err(CliError::new(Exit::Refused, format!("read {}: {error}", to.display()))),
    }
}
