//! `muster generate certificate`: for a balancer that ends TLS in front of agents.
//!
//! Agents trust the installation's CA and nobody else, so a balancer that they are to believe needs a
//! certificate of that CA. Whoever may read the configuration and the key that seals secrets may sign.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use muster_authority::Authorities;
use muster_catalog::{Catalog, Options};
use muster_cluster::secrets::Key;
use muster_types::SystemClock;

use crate::cli::args::ServerArgs;
use crate::client::CliError;
use crate::server::{formats, identity, planes, secret_key_file};

/// Flags of `muster generate certificate`.
#[derive(Args)]
pub struct Certificate {
    /// Configuration file (YAML) of the instances.
    #[arg(long, short = 'c', env = "MUSTER_CONFIG")]
    pub config: Option<PathBuf>,
    /// The instance's data folder.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A name or address that agents and people use for the balancer (repeatable).
    #[arg(long = "name", required = true)]
    pub names: Vec<String>,
    /// Folder for `balancer.pem`, `balancer.pem.key` and the CAs to trust, `ca.pem`.
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
    /// Days it is valid.
    #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub days: i64,
}

/// Issues it.
pub async fn run(args: &Certificate) -> Result<(), CliError> {
    let config = crate::cli::config::load(&ServerArgs {
        config: args.config.clone(),
        data: args.data.clone(),
        names: Vec::new(),
    })?;
    identity::prepare_data_dir(&config.data_dir)?;
    let url = planes::catalog_url(&config);
    let catalog = Catalog::open(&url, Options::default()).await.context("open the catalog")?;
    formats::migrate(&catalog).await.context("migrate the catalog")?;
    let key = Key::load_or_create(&secret_key_file(&config)).context("read the secret key")?;
    let authorities = Authorities::open(&catalog, &key, &SystemClock).await;
    let authorities = authorities.context("read the CA from the catalog")?;
    catalog.close().await;
    let issued = authorities.signing().authority.issue_pem(&args.names, args.days, &SystemClock);
    let issued = issued.context("issue the certificate")?;
    let path = |name: &str| args.out.join(name);
    identity::write_private(&path("balancer.pem.key"), issued.key_pem.as_bytes())?;
    for (name, text) in
        [("balancer.pem", &issued.chain_pem), ("ca.pem", &authorities.trusted_pem())]
    {
        std::fs::write(path(name), text).with_context(|| format!("write {name}"))?;
    }
    eprintln!("{}: valid for {} days", path("balancer.pem").display(), args.days);
    Ok(())
}
