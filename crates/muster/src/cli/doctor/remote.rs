//! Through a server: what it knows, and the way there.

use muster_telemetry::doctor::{CLOCK_APART_MAX, Finding, id};
use muster_types::{Clock, SystemClock};
use reqwest::Method;
use serde_json::Value;

use super::certificate;
use crate::client::{CliError, Client, Contexts, Exit};

/// Everything that is wrong, seen from here.
///
/// # Errors
/// When the server cannot be asked at all and nothing says why.
pub async fn look(context: Option<&str>) -> Result<Vec<Finding>, CliError> {
    let contexts = Contexts::load(&Contexts::default_path())?;
    let (_, context) = contexts.select(context)?;
    let mut findings = certificate::look(&context.address, SystemClock.now()).await;
    let client = Client::new(&context)?;
    let version: Value = match client.get("/v1/version").await {
        Ok(version) => version,
        // A bad certificate explains why nothing can be asked.
        Err(error) if error.exit == Exit::Unreachable && !findings.is_empty() => {
            return Ok(findings);
        }
        Err(error) => return Err(error),
    };
    findings.extend(neighbours(&version));
    let response = client.checked(client.request(Method::GET, "/v1/doctor")).await?;
    let own = response.extensions().get::<hyper_util::client::legacy::connect::HttpInfo>();
    let own = own.map(|info| info.local_addr().to_string());
    let read = response.json().await;
    let diagnosis: Value = read.map_err(|error| CliError::new(Exit::Refused, error.to_string()))?;
    findings.extend(way(&diagnosis["came"], own.as_deref()));
    let found: Vec<Finding> = serde_json::from_value(diagnosis["findings"].clone())
        .map_err(|error| CliError::new(Exit::Refused, error.to_string()))?;
    findings.extend(found);
    if let Ok(verified) = client.get::<Value>("/v1/audit/verify").await
        && verified["intact"].as_bool() == Some(false)
    {
        findings.push(Finding::new(
            id::AUDIT,
            format!("the audit log was changed: {verified}"),
            "compare it with a backup; somebody with access to the store edited it",
        ));
    }
    findings.dedup();
    Ok(findings)
}

/// This program and its clock against the server's.
fn neighbours(version: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let own = crate::server::program::version();
    if let Some(server) = version["version"].as_str().filter(|server| *server != own) {
        findings.push(Finding::new(
            id::CLIENT_VERSION,
            format!("the server is {server}, this program is {own}"),
            "use the same version on both sides, or neighbouring ones while upgrading",
        ));
    }
    let parsed = version["now"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    if let Some(server) = parsed {
        let apart = (SystemClock.now().seconds() - server.as_second()).unsigned_abs();
        if apart > CLOCK_APART_MAX.as_secs() {
            findings.push(Finding::new(
                id::CLOCK,
                format!("the server's clock and this machine's are {apart} s apart"),
                "run a time service (chrony, systemd-timesyncd) on both",
            ));
        }
    }
    findings
}

/// Whether somebody between us and the server says for whom it asks, and is believed.
///
/// The server tells on whose connection we came. When that is our own socket nobody is in between.
fn way(came: &Value, own: Option<&str>) -> Option<Finding> {
    let connection = came["connection"].as_str()?;
    if Some(connection) == own {
        return None;
    }
    let (trusted, forwarded) =
        (came["trusted"].as_bool() == Some(true), came["forwarded"].as_bool() == Some(true));
    match (trusted, forwarded) {
        (true, false) => Some(Finding::new(
            id::PROXY_HEADER,
            format!(
                "the trusted proxy at {connection} does not say for whom it asks: everybody \
                 has the proxy's address in the audit log and in limits"
            ),
            "let it set X-Forwarded-For (`muster generate nginx` shows how)",
        )),
        (false, true) => Some(Finding::new(
            id::PROXY_UNTRUSTED,
            format!("the proxy at {connection} says for whom it asks, and is not believed"),
            "add its address to listeners.trusted_proxies (and agents.trusted_proxies)",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_way_is_judged_by_who_is_on_it() {
        let found = |trusted: bool, forwarded: bool, own: &str| {
            let came =
                json!({"connection": "10.0.0.1:5", "trusted": trusted, "forwarded": forwarded});
            way(&came, Some(own)).map(|finding| finding.id)
        };
        assert_eq!(found(true, false, "10.0.0.1:5"), None, "nobody is in between");
        assert_eq!(found(true, false, "10.0.0.9:5").as_deref(), Some(id::PROXY_HEADER));
        assert_eq!(found(false, true, "10.0.0.9:5").as_deref(), Some(id::PROXY_UNTRUSTED));
        assert_eq!(found(true, true, "10.0.0.9:5"), None);
        assert_eq!(found(false, false, "10.0.0.9:5"), None, "translated addresses");
        assert!(way(&json!({}), None).is_none());
    }
}
