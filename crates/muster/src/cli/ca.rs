//! `muster ca …`: the CAs that agents and people trust, and how one follows another.

use std::io::Write as _;

use clap::Subcommand;
use serde_json::{Value, json};

use super::session::{Session, confirm};
use crate::client::{CliError, Client, Contexts};

/// `muster ca …`.
#[derive(Subcommand)]
pub enum Ca {
    /// List the CAs.
    List,
    /// Print the certificates of all (PEM), the one that signs first.
    Show,
    /// Add a CA that agents are told to trust beside the others. It does not sign yet.
    #[command(visible_alias = "create")]
    Add,
    /// Let a CA sign the servers' certificates from now on.
    Sign {
        /// Its number.
        no: u32,
        /// Also when agents have not been told of it: they will not believe the servers any more.
        #[arg(long)]
        leave_behind: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Retire a CA: nobody is to trust it any more.
    Retire {
        /// Its number.
        no: u32,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster ca …`.
pub async fn run(session: &Session, context: Option<&str>, command: Ca) -> Result<(), CliError> {
    let client = &session.client;
    match command {
        Ca::List => {
            let columns = ["no", "signs", "added_at", "untold_agents", "fingerprint"];
            session.list("/v1/cas", &[], &columns).await
        }
        Ca::Show => Ok(std::io::stdout().write_all(trusted(client).await?.as_bytes())?),
        Ca::Add => {
            let added: Value = client.post("/v1/cas", &json!({})).await?;
            learn(client, context).await?;
            session.say(
                "linked agents learn of it within a minute; `muster ca list` shows of how many that is not certain. \
                 Give `muster ca show` to those who keep the CAs in a file (osquery hosts, balancers, \
                 other people's contexts), then: muster ca sign NO",
            );
            session.object(&added)
        }
        Ca::Sign { no, leave_behind, yes } => {
            let question = format!(
                "Let CA {no} sign? Osquery hosts, balancers and contexts without it in their file of \
                 CAs will not believe the servers any more."
            );
            confirm(&question, yes)?;
            // Before it signs: afterwards this context may not believe the server.
            learn(client, context).await?;
            let body = json!({"leave_behind": leave_behind});
            let _: Value = client.post(&format!("/v1/cas/{no}/sign"), &body).await?;
            // Now this one comes first.
            learn(client, context).await?;
            session.say("within ten seconds every instance shows a certificate of it");
            Ok(())
        }
        Ca::Retire { no, yes } => {
            confirm(&format!("Retire CA {no}? Its key is forgotten."), yes)?;
            client.delete(&format!("/v1/cas/{no}")).await?;
            learn(client, context).await?;
            session.say(&format!("linked agents forget CA {no} within a minute"));
            Ok(())
        }
    }
}

/// The certificates of all CAs, PEM, the one that signs first.
async fn trusted(client: &Client) -> Result<String, CliError> {
    let cas: Value = client.get("/v1/cas").await?;
    let mut cas: Vec<&Value> = cas["items"].as_array().into_iter().flatten().collect();
    cas.sort_by_key(|ca| ca["signs"] != json!(true));
    Ok(cas.iter().filter_map(|ca| ca["certificate"].as_str()).collect())
}

/// A context that pins a CA of this server pins those it has now. One that pins another, of a balancer for
/// instance, keeps it.
pub async fn learn(client: &Client, context: Option<&str>) -> Result<(), CliError> {
    let mut contexts = Contexts::load(&Contexts::default_path())?;
    let (name, mut context) = contexts.select(context)?;
    let Some(pinned) = &context.ca_pem else { return Ok(()) };
    if let Some(trusted) = current(client, pinned).await?
        && *pinned != trusted
    {
        context.ca_pem = Some(trusted);
        contexts.contexts.insert(name, context);
        contexts.save()?;
    }
    Ok(())
}

/// The CAs of the server now (PEM, the one that signs first), for somebody who pins one of them; `None` for
/// who pins another.
pub async fn current(client: &Client, pinned: &str) -> Result<Option<String>, CliError> {
    let trusted = trusted(client).await?;
    let end = "-----END CERTIFICATE-----";
    let is_ours = trusted
        .split_inclusive(end)
        .map(str::trim)
        .any(|certificate| certificate.ends_with(end) && pinned.contains(certificate));
    Ok(is_ours.then_some(trusted))
}
