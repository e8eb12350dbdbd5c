//! `muster upload …`: files taken from endpoints.

use std::io::{IsTerminal, Write, stdout};
use std::path::PathBuf;

use clap::Subcommand;
use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::plain::endpoint_number;
use super::session::Session;
use crate::client::{CliError, Exit};

/// `muster upload …`.
#[derive(Subcommand)]
pub enum Upload {
    /// List uploads, newest first.
    List {
        /// Only those of this endpoint, by number or name.
        #[arg(long)]
        endpoint: Option<String>,
        /// Only those that are open, received, stored or failed.
        #[arg(long)]
        state: Option<String>,
    },
    /// One upload.
    Show {
        /// Its number.
        no: u64,
    },
    /// Fetch the file of an upload and check its hash.
    Get {
        /// Its number.
        no: u64,
        /// Where to: a file that does not exist yet, or `-` for standard output.
        #[arg(long)]
        to: Option<PathBuf>,
    },
}

/// Runs `muster upload …`.
pub async fn run(session: &Session, command: Upload) -> Result<(), CliError> {
    match command {
        Upload::List { endpoint, state } => {
            let mut query = Vec::new();
            if let Some(given) = endpoint {
                query.push(("endpoint", endpoint_number(session, &given).await?.to_string()));
            }
            query.extend(state.map(|state| ("state", state)));
            let columns = [
                "no",
                "endpoint",
                "kind",
                "state",
                "byte_count",
                "format",
                "begun_at",
                "external_id",
            ];
            session.list("/v1/uploads", &query, &columns).await
        }
        Upload::Show { no } => {
            session.object(&session.client.get(&format!("/v1/uploads/{no}")).await?)
        }
        Upload::Get { no, to } => get(session, no, to).await,
    }
}

async fn get(session: &Session, no: u64, to: Option<PathBuf>) -> Result<(), CliError> {
    let client = &session.client;
    let upload: Value = client.get(&format!("/v1/uploads/{no}")).await?;
    let format = upload["format"].as_str().unwrap_or("bin");
    let path = to.unwrap_or_else(|| format!("upload-{no}.{format}").into());
    let request = client.request(Method::GET, &format!("/v1/uploads/{no}/content"));
    let response = client.checked(request).await?;
    let sha256 = if path.as_os_str() == "-" {
        if stdout().is_terminal() {
            return Err(CliError::usage(
                "what an endpoint sent is not for a terminal; redirect it",
            ));
        }
        copy(response, &mut stdout().lock()).await?
    } else {
        // Never over a file that is there.
        let failed = |error| CliError::new(Exit::Refused, format!("{}: {error}", path.display()));
        let mut file = std::fs::File::create_new(&path).map_err(failed)?;
        let copied = copy(response, &mut file).await;
        if copied.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        copied?
    };
    if upload["sha256"].as_str().is_some_and(|wanted| wanted != sha256) {
        let message = format!("the file came with hash {sha256}, not {}", upload["sha256"]);
        return Err(CliError::new(Exit::Partial, message));
    }
    eprintln!("{} (SHA-256 {sha256})", path.display());
    Ok(())
}

/// Copies the body; its hash.
async fn copy(response: Response, to: &mut impl Write) -> Result<String, CliError> {
    let mut hash = Sha256::new();
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            CliError::new(Exit::Partial, format!("the file broke off: {error}"))
        })?;
        hash.update(&chunk);
        to.write_all(&chunk)?;
    }
    to.flush()?;
    Ok(hex::encode(hash.finalize()))
}
