//! What works beside the store, without a server or a sign-in: whoever may read the data folder may be
//! anybody in it already.

use std::path::PathBuf;

use clap::Args;
use muster_catalog::Catalog;
use muster_types::{Clock, SystemClock};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::args::ServerArgs;
use super::output::Format;
use super::session::object;
use crate::client::{CliError, Exit};
use crate::server::planes::catalog_url;
use crate::server::program;

/// Whose stores, for commands that ask a server unless this is said.
#[derive(Args, Clone, Default)]
pub struct Beside {
    /// Work beside the stores that this configuration file names [env: MUSTER_CONFIG, unless a context is
    /// named].
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Work beside the stores in this data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Beside {
    /// Where the configuration comes from; `None` when a server is to be asked.
    pub fn wanted(&self, context: Option<&str>) -> Option<ServerArgs> {
        let file = std::env::var_os("MUSTER_CONFIG").filter(|file| !file.is_empty());
        self.wanted_with(context, file.map(PathBuf::from))
    }

    /// Who names a context means its server, whatever this machine's environment says.
    fn wanted_with(&self, context: Option<&str>, file: Option<PathBuf>) -> Option<ServerArgs> {
        let said = self.config.is_some() || self.data.is_some();
        if !said && (context.is_some() || file.is_none()) {
            return None;
        }
        let config = self.config.clone().or(file);
        Some(ServerArgs { config, data: self.data.clone(), names: Vec::new() })
    }
}

/// Gives a user a new one-time password; makes the account an administrator's when it is `admin`.
///
/// The catalog is the one the configuration names, or the one in the data folder.
pub fn reset(stores: &ServerArgs, format: Format, name: &str) -> Result<(), CliError> {
    let config = super::config::load(stores)?;
    super::backup::exists(&config)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = Catalog::open(&catalog_url(&config), program::beside_options()).await;
        let catalog = opened.map_err(|error| {
            let hint =
                "stop the server first, or, signed in: muster --context CONTEXT user reset NAME";
            CliError::new(Exit::Refused, format!("{error}; {hint}"))
        })?;
        let now = SystemClock.now();
        let reset = muster_api::auth::bootstrap::reset_user(&catalog, name, now).await;
        let password = reset.map_err(anyhow::Error::from)?;
        match format {
            Format::Table => println!("{name}: one-time password {}", password.expose_secret()),
            // As the server answers it.
            _ => object(
                format,
                &json!({"name": name, "one_time_password": password.expose_secret()}),
            )?,
        }
        eprintln!("start the server, then: muster login {name}");
        catalog.close().await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_a_context_and_that_before_the_environment() {
        let path = |name: &str| Some(PathBuf::from(name));
        let none = Beside::default();
        let data = Beside { data: path("data"), ..Beside::default() };
        let both = Beside { config: path("own"), ..data.clone() };
        assert!(none.wanted_with(None, None).is_none());
        assert!(none.wanted_with(Some("away"), path("env")).is_none());
        let config = |args: Option<ServerArgs>| args.unwrap().config;
        assert_eq!(config(none.wanted_with(None, path("env"))), path("env"));
        assert_eq!(config(data.wanted_with(Some("away"), path("env"))), path("env"));
        assert_eq!(config(data.wanted_with(None, None)), None);
        assert_eq!(config(both.wanted_with(None, path("env"))), path("own"));
    }
}
