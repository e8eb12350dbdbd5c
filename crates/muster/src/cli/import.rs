//! `muster import …`: what other servers were configured with, through the API like everything else.

mod apply;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_schedules::import::{Import, Unreadable, fleet, osquery};
use serde_json::{Map, Value, json};

use super::output::Printer;
use super::session::Session;
use crate::client::{CliError, Exit};
use apply::Apply;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// `muster import …`.
#[derive(Subcommand)]
pub enum ImportCommand {
    /// A pack or a whole configuration of osquery: JSON with comments, as osquery reads it.
    Osquery {
        /// The file.
        file: PathBuf,
        /// Name of the pack, or of the part of the configuration; the file's name when missing.
        #[arg(long)]
        name: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// YAML of Fleet: what `fleetctl get --yaml` writes, or a gitops file.
    Fleet {
        /// The file.
        file: PathBuf,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What became of one thing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Imported,
    Updated,
    Unchanged,
    Changed,
    Skipped,
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// Runs `muster import …`.
pub async fn run(session: &Session, command: ImportCommand) -> Result<(), CliError> {
    let (import, dry_run) = match command {
        ImportCommand::Osquery { file, name, dry_run } => (read_osquery(&file, name)?, dry_run),
        ImportCommand::Fleet { file, dry_run } => (read_fleet(&file)?, dry_run),
    };
    let columns = ["outcome", "what", "at", "reason"];
    let mut printer = Printer::new(session.format, std::io::stdout().lock(), &columns);
    let mut counts = [0_usize; 6];
    let mut print = |outcome: Outcome, what: &str, at: &str, reason: &str| {
        counts[outcome as usize] += 1;
        let row = json!({
            "outcome": outcome.as_str(), "what": what, "at": at, "reason": reason,
        });
        printer.row(row.as_object().cloned().unwrap_or_default())
    };
    let mut apply = Apply::new(session, dry_run).await?;
    for wanted in &import.wanted {
        let what = format!("{} {:?}", wanted.kind.as_str(), wanted.name);
        let at = wanted.place.to_string();
        match apply.one(wanted).await {
            Ok((outcome, reason)) => print(outcome, &what, &at, &reason)?,
            // Without a server or rights nothing that follows would work either.
            Err(error) if error.exit != Exit::Refused => return Err(error),
            Err(error) => print(Outcome::Failed, &what, &at, &error.message)?,
        }
    }
    for note in &import.notes {
        let outcome = if note.skipped { Outcome::Skipped } else { Outcome::Changed };
        print(outcome, &note.what, &note.place.to_string(), &note.reason)?;
    }
    printer.finish()?;
    finish(dry_run, counts)
}

fn finish(dry_run: bool, counts: [usize; 6]) -> Result<(), CliError> {
    let count = |outcome: Outcome| counts[outcome as usize];
    eprintln!(
        "{}{} imported, {} updated, {} unchanged; {} changed, {} skipped, {} failed",
        if dry_run { "dry run, nothing was done: " } else { "" },
        count(Outcome::Imported),
        count(Outcome::Updated),
        count(Outcome::Unchanged),
        count(Outcome::Changed),
        count(Outcome::Skipped),
        count(Outcome::Failed),
    );
    match count(Outcome::Failed) {
        0 => Ok(()),
        n => Err(CliError::new(Exit::Refused, format!("{n} things were not imported"))),
    }
}

fn read_osquery(file: &Path, name: Option<String>) -> Result<Import, CliError> {
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.or_else(stem).unwrap_or_else(|| "osquery".to_owned());
    let load = |path: &str| beside(file, path);
    osquery::read(&file.display().to_string(), &read(file)?, &name, &load)
        .map_err(|error| unreadable(&error))
}

fn read_fleet(file: &Path) -> Result<Import, CliError> {
    let around = fleet::Surroundings {
        load: &|path| beside(file, path),
        variable: &|name| std::env::var(name).ok(),
    };
    fleet::read(&file.display().to_string(), &read(file)?, &around)
        .map_err(|error| unreadable(&error))
}

fn unreadable(error: &Unreadable) -> CliError {
    CliError::new(Exit::Refused, error.to_string())
}

fn read(file: &Path) -> Result<String, CliError> {
    text(file).map_err(|problem| CliError::usage(format!("{}: {problem}", file.display())))
}

/// A file that another one names, by a path relative to that.
fn beside(file: &Path, path: &str) -> Result<String, String> {
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    text(&folder.join(path)).map_err(|problem| format!("{path}: {problem}"))
}

fn text(file: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// The members of `wanted` that differ in `known`.
fn differing(wanted: &Map<String, Value>, known: &Value) -> Map<String, Value> {
    let differs = |(key, value): &(&String, &Value)| known.get(key.as_str()) != Some(*value);
    wanted.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
}
