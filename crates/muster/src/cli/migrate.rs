//! `muster migrate …`: the catalog's layout, beside the store.

use clap::Subcommand;
use muster_catalog::{Applied, Catalog, Status};
use muster_cluster::{raise_formats, stored_formats};
use serde_json::{Map, Value, json};

use super::backup::{Stores, exists};
use super::output::{Format, Printer};
use crate::client::{CliError, Exit};
use crate::server::formats::{self, FORMATS};
use crate::server::planes::catalog_url;
use crate::server::program;

/// Since this migration the catalog says in which version forms are written.
const TELLS_FORMATS: &str = "0014_formats";

/// `muster migrate …`.
#[derive(Subcommand)]
pub enum Migrate {
    /// How far the catalog is, and who is too old for what comes.
    Status {
        /// Whose.
        #[command(flatten)]
        stores: Stores,
    },
    /// Add what this version needs. Servers do the same when they start; older ones go on beside it.
    Expand {
        /// Whose.
        #[command(flatten)]
        stores: Stores,
    },
    /// Take away what only older versions need, and write what only newer ones read. Refused while an older
    /// one lives.
    Contract {
        /// Whose.
        #[command(flatten)]
        stores: Stores,
    },
}

/// Runs it.
pub fn run(command: &Migrate, format: Format) -> Result<(), CliError> {
    let (Migrate::Status { stores } | Migrate::Expand { stores } | Migrate::Contract { stores }) =
        command;
    let config = stores.load()?;
    exists(&config)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let url = catalog_url(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = match command {
            // Also while a server has the store.
            Migrate::Status { .. } => {
                Catalog::open_read_only_with(&url, program::beside_options()).await
            }
            _ => Catalog::open(&url, program::beside_options()).await,
        };
        let catalog = opened.map_err(refused)?;
        let done = act(&catalog, command, format).await;
        catalog.close().await;
        done
    })
}

async fn act(catalog: &Catalog, command: &Migrate, format: Format) -> Result<(), CliError> {
    let before = catalog.migrations().await.map_err(refused)?;
    match command {
        Migrate::Status { .. } => {
            show(&before, format)?;
            show_formats(catalog, &before, format).await
        }
        Migrate::Expand { .. } => {
            formats::migrate(catalog).await.map_err(refused)?;
            let missing = before.migrations.iter().filter(|m| m.applied_at.is_none());
            let names = missing.filter(|m| m.kind == "expand").map(|m| (m.name.clone(), None));
            show_done(names.collect(), format)
        }
        Migrate::Contract { .. } => {
            let names = catalog.contract().await.map_err(refused)?;
            let mut done: Vec<_> = names.into_iter().map(|name| (name.to_owned(), None)).collect();
            let raised = raise_formats(catalog, &FORMATS).await.map_err(refused)?;
            done.extend(raised.into_iter().map(|form| (form.name, Some(form.version))));
            show_done(done, format)
        }
    }
}

/// What was applied, and forms with the version they are written in from now on.
fn show_done(done: Vec<(String, Option<u8>)>, format: Format) -> Result<(), CliError> {
    if matches!(format, Format::Table) {
        for (name, version) in done {
            let version = version.map(|version| format!(" {version}")).unwrap_or_default();
            println!("{name}{version}");
        }
        return Ok(());
    }
    let mut printer = Printer::new(format, std::io::stdout().lock(), &["name", "version"]);
    for (name, version) in done {
        let row = json!({"name": name, "version": version});
        printer.row(row.as_object().cloned().unwrap_or_default())?;
    }
    Ok(printer.finish()?)
}

#[expect(clippy::needless_pass_by_value, reason = "given to `map_err`")]
fn refused(error: muster_catalog::Error) -> CliError {
    CliError::new(Exit::Refused, error.to_string())
}

fn show(status: &Status, format: Format) -> Result<(), CliError> {
    let columns = ["migration", "kind", "state", "level"];
    let mut printer = Printer::new(format, std::io::stdout().lock(), &columns);
    for migration in &status.migrations {
        printer.row(row(migration))?;
    }
    printer.finish()?;
    if !matches!(format, Format::Table) {
        return Ok(());
    }
    eprintln!("this program is of level {}", status.level);
    eprintln!("the catalog works with level {} and above", status.lowest_level);
    for older in &status.older {
        eprintln!("older and alive: {older}");
    }
    Ok(())
}

/// Forms of which a newer version is written, or will be.
async fn show_formats(catalog: &Catalog, status: &Status, format: Format) -> Result<(), CliError> {
    let told =
        |migration: &Applied| migration.name == TELLS_FORMATS && migration.applied_at.is_some();
    if !matches!(format, Format::Table) || !status.migrations.iter().any(told) {
        return Ok(());
    }
    for form in stored_formats(catalog).await.map_err(refused)? {
        let (name, version, wanted) = (&form.name, form.version, form.wanted);
        if wanted > version {
            let micros = form.wanted_since.0;
            let since = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
            let settle = muster_cluster::Options::default().formats_settle.as_secs() / 3600;
            eprintln!(
                "{name} is written in version {version}; all servers read {wanted} since {since:.0}, and \
                 write it {settle} hours after that"
            );
        } else {
            eprintln!("{name} is written in version {version}");
        }
    }
    Ok(())
}

fn row(migration: &Applied) -> Map<String, Value> {
    let state = match (migration.applied_at, migration.known) {
        (None, _) => "missing",
        (Some(_), true) => "applied",
        (Some(_), false) => "applied by a newer version",
    };
    let cells = [
        ("migration", json!(migration.name)),
        ("kind", json!(migration.kind)),
        ("state", json!(state)),
        ("level", json!(migration.reader_level)),
    ];
    cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
