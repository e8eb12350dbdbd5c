//! `muster loadgen …`: simulated fleets.

use clap::Subcommand;

use crate::client::CliError;

/// `muster loadgen …`.
#[derive(Subcommand)]
pub enum LoadgenCommand {
    /// Simulated native agents with planted evidence.
    Native(muster_loadgen::NativeOptions),
    /// Simulated osquery agents, as costly and as careless with answers as real ones.
    Osquery(muster_loadgen::OsqueryOptions),
}

/// Runs it to its end.
pub fn run(command: LoadgenCommand) -> Result<(), CliError> {
    match command {
        LoadgenCommand::Native(options) => Ok(muster_loadgen::native(options)?),
        LoadgenCommand::Osquery(options) => Ok(muster_loadgen::osquery(options)?),
    }
}
