//! `muster generate …`: files for other programs.
//!
//! What stands in front of several instances is made from a [`Site`](site::Site), which comes from the
//! configuration file or from the instances that live. The texts are in `templates/`.

mod apache;
mod certificate;
mod files;
mod haproxy;
mod nginx;
mod osquery;
mod servers;
mod site;
#[cfg(test)]
mod tests;

use clap::Subcommand;

use super::output::Format;
use super::session::Session;
use crate::client::CliError;

/// `muster generate …`.
#[derive(Subcommand)]
pub enum Generate {
    /// Print the flag file of an osqueryd that talks to this server.
    OsqueryFlags(osquery::OsqueryFlags),
    /// Print the line that makes a machine with osqueryd an agent of this server. It pins the CA by its
    /// fingerprint; the secret is asked for, or read from standard input.
    OsqueryInstall(osquery::OsqueryInstall),
    /// Print a configuration of nginx as the balancer in front of all instances.
    Nginx(site::Balancer),
    /// Print a site of Apache httpd as the balancer in front of all instances.
    Apache(site::Balancer),
    /// Print a configuration of HAProxy as the balancer in front of all instances.
    Haproxy(site::Balancer),
    /// Print the systemd template unit, several instances of which run on one machine.
    Systemd,
    /// Print a compose file: PostgreSQL, NATS, an object store, two instances, and nginx.
    DockerCompose,
    /// Issue a certificate for a balancer that ends TLS, by the CA that agents trust. Works beside the
    /// stores, with the configuration file of an instance.
    Certificate(certificate::Certificate),
}

/// Runs `muster generate …`.
pub async fn run(context: Option<&str>, format: Format, command: Generate) -> Result<(), CliError> {
    let session = || Session::open(context, format);
    match command {
        Generate::OsqueryFlags(args) => osquery::flags(&session()?, context, args).await?,
        Generate::OsqueryInstall(args) => osquery::install(&session()?, context, args).await?,
        Generate::Nginx(args) => {
            print!("{}", nginx::text(&args.site(site::Tls::Mixed, session).await?));
        }
        Generate::Haproxy(args) => {
            print!("{}", haproxy::text(&args.site(site::Tls::Mixed, session).await?));
        }
        Generate::Apache(args) => {
            print!("{}", apache::text(&args.site(site::Tls::End, session).await?)?);
        }
        Generate::Systemd => print!("{}", files::systemd()),
        Generate::DockerCompose => print!("{}", files::COMPOSE),
        Generate::Certificate(args) => certificate::run(&args).await?,
    }
    Ok(())
}
