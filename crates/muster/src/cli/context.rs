//! `muster context …`: which servers this user talks to.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::output::{Format, Printer};
use super::session::confirm;
use crate::client::{CliError, Context, Contexts};

/// `muster context …`.
#[derive(Subcommand)]
pub enum ContextCommand {
    /// List the contexts.
    List,
    /// Make or change a context, and use it from now on.
    Set {
        /// Its name.
        name: String,
        /// Address of the operators' listener, https://HOST:PORT.
        #[arg(long)]
        address: Option<String>,
        /// File with the only CA to trust for it.
        #[arg(long)]
        ca: Option<PathBuf>,
    },
    /// Use a context from now on.
    Use {
        /// Its name.
        name: String,
    },
    /// Forget a context.
    #[command(visible_alias = "remove")]
    Delete {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `muster context …`.
pub fn run(command: ContextCommand, format: Format) -> Result<(), CliError> {
    let mut contexts = Contexts::load(&Contexts::default_path())?;
    match command {
        ContextCommand::List => return list(&contexts, format),
        ContextCommand::Set { name, address, ca } => set(&mut contexts, name, address, ca)?,
        ContextCommand::Use { name } => {
            contexts.select(Some(&name))?;
            contexts.current = Some(name);
        }
        ContextCommand::Delete { name, yes } => {
            contexts.select(Some(&name))?;
            confirm(&format!("Forget context {name}, with the sign-in there?"), yes)?;
            contexts.contexts.remove(&name);
            if contexts.current.as_ref() == Some(&name) {
                contexts.current = None;
            }
            contexts.save()?;
            eprintln!("context {name} is forgotten");
            return Ok(());
        }
    }
    contexts.save()?;
    Ok(())
}

fn list(contexts: &Contexts, format: Format) -> Result<(), CliError> {
    let mut printer = Printer::new(
        format,
        std::io::stdout().lock(),
        &["current", "name", "address", "signed_in"],
    );
    for (name, context) in &contexts.contexts {
        let row = json!({
            "current": if contexts.current.as_ref() == Some(name) { "*" } else { "" },
            "name": name,
            "address": context.address,
            "signed_in": context.token.is_some(),
        });
        printer.row(row.as_object().cloned().unwrap_or_default())?;
    }
    Ok(printer.finish()?)
}

fn set(
    contexts: &mut Contexts,
    name: String,
    address: Option<String>,
    ca: Option<PathBuf>,
) -> Result<(), CliError> {
    let mut context: Context = contexts.contexts.remove(&name).unwrap_or_default();
    if let Some(address) = address {
        if !address.starts_with("https://") {
            let message = format!("{address:?} is no address; write https://HOST:PORT");
            return Err(CliError::usage(message));
        }
        // A token belongs to the server that gave it.
        if context.address != address {
            context.token = None;
        }
        context.address = address;
    }
    if context.address.is_empty() {
        return Err(CliError::usage("a new context needs --address https://HOST:PORT"));
    }
    if let Some(ca) = ca {
        let pem = std::fs::read_to_string(&ca)
            .map_err(|error| CliError::usage(format!("--ca {}: {error}", ca.display())))?;
        if !pem.contains("BEGIN CERTIFICATE") {
            let message = format!("--ca {} holds no PEM certificate", ca.display());
            return Err(CliError::usage(message));
        }
        context.ca_pem = Some(pem);
    }
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name);
    Ok(())
}
