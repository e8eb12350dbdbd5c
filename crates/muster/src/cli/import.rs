//! `muster import …`: what other servers were configured with, through the API like everything else.

mod apply;
mod files;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_schedules::import::{Import, Unreadable, fleet, osquery};
use serde_json::{Map, Value, json};

use super::output::Printer;
use super::session::Session;
use crate::client::{CliError, Exit};
use apply::Apply;
use files::Beside;

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
        /// Read packs outside the folder of the file as well.
        #[arg(long)]
        allow_outside: bool,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// YAML of Fleet: what `fleetctl get --yaml` writes, or a gitops file.
    Fleet {
        /// The file.
        file: PathBuf,
        /// Read files outside the folder of the file as well, as `../lib/policies.yml`.
        #[arg(long)]
        allow_outside: bool,
        /// Replace `$NAME` and `${NAME}` in secrets by variables of the environment.
        #[arg(long)]
        env: bool,
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
        ImportCommand::Osquery { file, name, allow_outside, dry_run } => {
            (read_osquery(&file, name, allow_outside)?, dry_run)
        }
        ImportCommand::Fleet { file, allow_outside, env, dry_run } => {
            (read_fleet(&file, allow_outside, env)?, dry_run)
        }
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

fn read_osquery(
    file: &Path,
    name: Option<String>,
    allow_outside: bool,
) -> Result<Import, CliError> {
    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.or_else(stem).unwrap_or_else(|| "osquery".to_owned());
    let beside = Beside::new(file, allow_outside);
    let load = |path: &str| beside.read(path);
    osquery::read(&file.display().to_string(), &read(file)?, &name, &load)
        .map_err(|error| unreadable(&error))
}

fn read_fleet(file: &Path, allow_outside: bool, env: bool) -> Result<Import, CliError> {
    let beside = Beside::new(file, allow_outside);
    let variable = |name: &str| match std::env::var(name) {
        _ if !env => {
            Err(format!("${name} is a variable of the environment; with --env it is read"))
        }
        Ok(text) => Ok(text),
        Err(_) => Err(format!("its text is in ${name}, which is not set in the environment")),
    };
    let around = fleet::Surroundings { load: &|path| beside.read(path), variable: &variable };
    fleet::read(&file.display().to_string(), &read(file)?, &around)
        .map_err(|error| unreadable(&error))
}

fn unreadable(error: &Unreadable) -> CliError {
    CliError::new(Exit::Refused, error.to_string())
}

fn read(file: &Path) -> Result<String, CliError> {
    files::text(file).map_err(|problem| CliError::usage(format!("{}: {problem}", file.display())))
}

/// The members of `wanted` that differ in `known`.
fn differing(wanted: &Map<String, Value>, known: &Value) -> Map<String, Value> {
    let differs = |(key, value): &(&String, &Value)| known.get(key.as_str()) != Some(*value);
    wanted.iter().filter(differs).map(|(key, value)| (key.clone(), value.clone())).collect()
}
