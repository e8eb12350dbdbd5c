//! `muster config …`: the configuration file.

use clap::Subcommand;

use super::args::ServerArgs;
use crate::client::{CliError, Exit};
use crate::config::{self, Config, Overrides, RoleName};

/// `muster config …`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the effective configuration, without passwords.
    Show {
        /// Where it comes from.
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Check a configuration; exit 1 and every fault with its key.
    Check {
        /// Where it comes from.
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Print the JSON schema of the configuration file.
    Schema,
    /// Print a commented file with every key at its default.
    Sample,
}

/// Runs `muster config …`.
pub fn run(command: ConfigCommand) -> Result<(), CliError> {
    match command {
        ConfigCommand::Show { server } => print!("{}", config::redacted_yaml(&load(&server)?)),
        ConfigCommand::Check { server } => {
            load(&server)?;
            eprintln!("the configuration is fine");
        }
        ConfigCommand::Schema => println!("{:#}", config::schema()),
        ConfigCommand::Sample => print!("{}", config::sample()),
    }
    Ok(())
}

/// The configuration of these flags.
pub fn load(server: &ServerArgs) -> Result<Config, CliError> {
    load_with(&Config::default(), server, &[])
}

/// The same over other defaults, with roles from the command line.
pub fn load_with(
    defaults: &Config,
    server: &ServerArgs,
    roles: &[RoleName],
) -> Result<Config, CliError> {
    let overrides = Overrides {
        data_dir: server.data.clone(),
        names: server.names.clone(),
        roles: roles.to_vec(),
    };
    config::load(defaults, server.config.as_deref(), &overrides)
        .map_err(|error| CliError::new(Exit::Refused, error.to_string()))
}
