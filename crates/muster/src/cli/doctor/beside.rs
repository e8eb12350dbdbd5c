//! Beside the stores: with the configuration of a server, whether one runs or not.

use std::sync::Arc;

use muster_authority::NAME as CA;
use muster_catalog::Catalog;
use muster_cluster::secrets::{self, Key};
use muster_telemetry::doctor::{Doctor, Finding, certificates, id};
use muster_types::{Clock, SystemClock};

use crate::cli::args::ServerArgs;
use crate::cli::config;
use crate::client::CliError;
use crate::config::Config;
use crate::server::parts::{shown, volumes};
use crate::server::planes::{archive_access, archive_url, catalog_url};
use crate::server::{nats, secret_key_file};

/// Everything that is wrong with the stores, the instances that report to them, and this machine.
///
/// # Errors
/// Never; what cannot be looked at is a finding.
pub async fn look(stores: &ServerArgs) -> Result<Vec<Finding>, CliError> {
    let config = match config::load(stores) {
        Ok(config) => config,
        Err(error) => {
            let remedy = "correct the keys that are named; `muster config sample` shows all";
            return Ok(vec![Finding::new(id::CONFIGURATION, error.to_string(), remedy)]);
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut findings = certificates(&shown(&config, ""), clock.now());
    for volume in volumes(&config) {
        if volume.free_bytes < volume.reserve_bytes {
            findings.push(Finding::disk(&volume));
        }
    }
    findings.extend(nats::findings(&config).await);
    let archive = archive_access(&config)
        .and_then(|access| Ok(muster_archive::Archive::open_with(&archive_url(&config), &access)?));
    let catalog = Catalog::open_beside(&catalog_url(&config)).await;
    match (catalog, archive) {
        (Ok(catalog), Ok(archive)) => {
            findings.extend(secret_key(&config, &catalog).await);
            findings.extend(Doctor::new(catalog.clone(), archive, clock).look().await);
            catalog.close().await;
        }
        (Err(error), _) => findings.push(Finding::catalog(&error)),
        (_, Err(error)) => {
            let problem = format!("the archive cannot be opened: {error:#}");
            let remedy = "check archive.url and its credentials";
            findings.push(Finding::new(id::ARCHIVE_WRITE, problem, remedy));
        }
    }
    // An instance on this machine reports the same of its disks and certificates.
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |other: &Finding| other.id == finding.id && other.problem == finding.problem;
        if !kept.iter().any(same) {
            kept.push(finding);
        }
    }
    Ok(kept)
}

/// Whether the key file opens what is sealed in the catalog.
async fn secret_key(config: &Config, catalog: &Catalog) -> Option<Finding> {
    let file = secret_key_file(config);
    let remedy = "put the same file on all machines and name it in tls.secret_key_file";
    let wrong = |problem: String| Some(Finding::new(id::SECRET_KEY, problem, remedy));
    if !file.exists() {
        let sealed = secrets::exists(catalog, CA).await.unwrap_or(false);
        let problem =
            format!("there is no secret key {}, and the catalog holds secrets", file.display());
        return if sealed { wrong(problem) } else { None };
    }
    let key = match Key::load_or_create(&file) {
        Ok(key) => key,
        Err(error) => return wrong(format!("the secret key cannot be read: {error}")),
    };
    match secrets::get(catalog, &key, CA).await {
        Err(muster_cluster::Error::Sealed { .. }) => {
            wrong(format!("the secret key {} opens nothing in this catalog", file.display()))
        }
        _ => None,
    }
}
