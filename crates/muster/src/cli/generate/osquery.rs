//! `muster generate osquery-…`: what makes a machine with osqueryd an agent.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::cli::ca;
use crate::cli::plain::read_file;
use crate::cli::session::Session;
use crate::client::{CliError, Contexts};
use crate::osquery_flags::{Flags, System};

/// Flags of `muster generate osquery-flags`.
#[derive(Args)]
pub struct OsqueryFlags {
    /// HOST:PORT of the agents' listener, as agents reach it; else the host of this context.
    #[arg(long)]
    pub server: Option<String>,
    /// Whose paths.
    #[arg(long, value_enum, default_value_t = System::Linux)]
    pub system: System,
    /// What identifies a host: uuid, instance (cloned machines), hostname or ephemeral.
    #[arg(long, default_value = "uuid", value_parser = ["uuid", "instance", "hostname", "ephemeral"])]
    pub host_identifier: String,
    /// Take compressed answers; osquery before 5.21 does not start with it.
    #[arg(long)]
    pub accept_gzip: bool,
}

/// Flags of `muster generate osquery-install`.
#[derive(Args)]
pub struct OsqueryInstall {
    /// HOST:PORT of the agents' listener, as agents reach it; else the host of this context.
    #[arg(long)]
    pub server: Option<String>,
    /// The CA that agents trust: `ca.pem` in the server's data folder. Needed where people use
    /// another certificate than agents; else the CA of this context.
    #[arg(long)]
    pub ca: Option<PathBuf>,
}

/// Prints the flag file.
pub async fn flags(
    session: &Session,
    context: Option<&str>,
    args: OsqueryFlags,
) -> Result<(), CliError> {
    let server = server(session, context, args.server).await?;
    let flags = Flags {
        server: &server,
        system: args.system,
        host_identifier: &args.host_identifier,
        accept_gzip: args.accept_gzip,
    };
    print!("{}", flags.text());
    Ok(())
}

/// Prints the line.
pub async fn install(
    session: &Session,
    context: Option<&str>,
    args: OsqueryInstall,
) -> Result<(), CliError> {
    let server = server(session, context, args.server).await?;
    let pem = match args.ca {
        Some(file) => Some(read_file(&file)?),
        None => match Contexts::load(&Contexts::default_path())?.select(context)?.1.ca_pem {
            // The one that signs now may be another than this context begins with.
            Some(pem) => Some(ca::current(&session.client, &pem).await?.unwrap_or(pem)),
            None => None,
        },
    };
    let Some(pem) = pem else {
        let message = "this context has no CA to pin; give the server's with --ca FILE";
        return Err(CliError::usage(message));
    };
    println!("{}", crate::install::line(&server, &crate::install::fingerprint(&pem)?));
    Ok(())
}

/// Where agents connect: the host people use, and the port a server registered.
async fn server(
    session: &Session,
    context: Option<&str>,
    given: Option<String>,
) -> Result<String, CliError> {
    if let Some(server) = given {
        let fits = server.rsplit_once(':').is_some_and(|(host, port)| {
            crate::install::is_host(host) && port.parse::<u16>().is_ok()
        });
        let message = || CliError::usage(format!("--server {server:?} is no HOST:PORT"));
        return if fits { Ok(server) } else { Err(message()) };
    }
    let unknown = || CliError::usage("where agents connect is not known; give --server HOST:PORT");
    let instances: Value = session.client.get("/v1/instances").await?;
    let items = instances["items"].as_array().ok_or_else(unknown)?;
    let agents = items
        .iter()
        .filter(|instance| instance["alive"] == true)
        .find_map(|instance| instance["addresses"][1].as_str()?.rsplit_once(':'));
    let (_, port) = agents.ok_or_else(unknown)?;
    let address = Contexts::load(&Contexts::default_path())?.select(context)?.1.address;
    let uri: http::Uri = address.parse().map_err(|_| unknown())?;
    let host = uri.host().ok_or_else(unknown)?;
    if matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        eprintln!("{host} is this machine only; for others give --server HOST:PORT");
    }
    Ok(format!("{host}:{port}"))
}
