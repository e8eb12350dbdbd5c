//! What works beside the store, without a server or a sign-in: whoever may read the data folder may be
//! anybody in it already.

use std::path::PathBuf;

use muster_catalog::Catalog;
use muster_types::{Clock, SystemClock};
use secrecy::ExposeSecret as _;

use super::args::ServerArgs;
use crate::client::{CliError, Exit};
use crate::server::planes::catalog_url;
use crate::server::program;

/// Gives a user a new one-time password; makes the account an administrator's when it is `admin`.
///
/// The catalog is the one the configuration names, or the one in the data folder.
pub fn reset(data: Option<PathBuf>, config: Option<PathBuf>, name: &str) -> Result<(), CliError> {
    let config = super::config::load(&ServerArgs { config, data, names: Vec::new() })?;
    let data = &config.data_dir;
    if config.catalog.url.is_none() && !data.join("catalog.db").is_file() {
        let message = format!("{} holds no catalog; give the server's data folder", data.display());
        return Err(CliError::usage(message));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = Catalog::open(&catalog_url(&config), program::beside_options()).await;
        let catalog = opened.map_err(|error| {
            let hint = "stop the server first, or use `muster user reset NAME` signed in";
            CliError::new(Exit::Refused, format!("{error}; {hint}"))
        })?;
        let now = SystemClock.now();
        let reset = muster_api::auth::bootstrap::reset_user(&catalog, name, now).await;
        let password = reset.map_err(anyhow::Error::from)?;
        println!("{name}: one-time password {}", password.expose_secret());
        println!("start the server, then: muster login {name}");
        catalog.close().await;
        Ok(())
    })
}
