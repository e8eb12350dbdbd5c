//! Which instances there are, and where they listen.

use serde_json::Value;

use crate::cli::session::Session;
use crate::client::CliError;
use crate::config::{Config, Listen};

/// Servers by the ports of the configuration.
pub fn of_config(config: &Config, instances: &[String]) -> Result<[Vec<String>; 2], CliError> {
    if instances.is_empty() {
        let message = "a configuration file does not say which machines run instances; name each \
                       with --instance HOST, or leave --config out to ask those that are alive";
        return Err(CliError::usage(message));
    }
    let first = |listen: &Listen| *listen.ports.start();
    let own = [first(&config.listeners.operators), first(&config.listeners.agents)];
    let (mut operators, mut agents) = (Vec::new(), Vec::new());
    for instance in instances {
        let bad = || {
            CliError::usage(format!(
                "--instance {instance:?} is no HOST, and no HOST:OPERATORS,AGENTS"
            ))
        };
        let (host, ports) = match instance.rsplit_once(':') {
            Some((host, ports)) if ports.contains(',') => {
                let (one, other) = ports.split_once(',').ok_or_else(bad)?;
                let port = |text: &str| text.parse::<u16>().map_err(|_| bad());
                (host, [port(one)?, port(other)?])
            }
            _ => (instance.as_str(), own),
        };
        if !crate::install::is_host(host) {
            return Err(bad());
        }
        operators.push(format!("{host}:{}", ports[0]));
        agents.push(format!("{host}:{}", ports[1]));
    }
    Ok([operators, agents])
}

/// Servers of the instances that are alive, by what they registered.
pub async fn alive(session: &Session) -> Result<[Vec<String>; 2], CliError> {
    let page: Value = session.client.get("/v1/instances").await?;
    let mut found = [Vec::new(), Vec::new()];
    let alive = page["items"].as_array().into_iter().flatten();
    for instance in alive.filter(|instance| instance["alive"] == true) {
        let roles = instance["roles"].as_str().unwrap_or_default();
        let does = |role| roles.split(',').any(|own| own == role || own == "all");
        for (at, role) in ["api", "frontend"].into_iter().enumerate() {
            if does(role) {
                let name = instance["name"].as_str().unwrap_or_default();
                found[at].extend(registered(instance, at).and_then(|one| server(one, name)));
            }
        }
    }
    found.iter_mut().for_each(|servers| {
        servers.sort();
        servers.dedup();
    });
    if found.iter().any(Vec::is_empty) {
        let message = "no instance is alive that serves people, or none that serves agents; \
                       give --config FILE and --instance HOST";
        return Err(CliError::usage(message));
    }
    Ok(found)
}

/// What an instance registered: an address by listener, or, of an earlier version, one list of both.
fn registered(instance: &Value, at: usize) -> Option<&str> {
    let named = &instance["listeners"][["operators", "agents"][at]][0];
    named.as_str().or_else(|| instance["addresses"][at].as_str())
}

/// `HOST:PORT` of what an instance registered: one that listens everywhere is reached by its name.
pub fn server(address: &str, name: &str) -> Option<String> {
    let address = address.split("://").last().unwrap_or(address);
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_unspecified() => name,
        _ => host,
    };
    let port: u16 = port.parse().ok()?;
    crate::install::is_host(host).then(|| format!("{host}:{port}"))
}
