//! What stands in front of the listeners, as it is configured.

use muster_gateway::listener::{Front, Proxies, TlsEnds};

use crate::config::{Config, ListenerName, Network};

/// In front of the operators' listener.
pub fn of_operators(config: &Config) -> Front {
    front(config, &config.listeners.trusted_proxies, ListenerName::Operators)
}

/// In front of the agents' listener.
pub fn of_agents(config: &Config) -> Front {
    front(config, &config.agents.trusted_proxies, ListenerName::Agents)
}

fn front(config: &Config, trusted: &[Network], name: ListenerName) -> Front {
    let listeners = &config.listeners;
    let is_plain = listeners.plain.contains(&name);
    let by_header = listeners.balancers(name);
    Front {
        proxies: networks(trusted),
        proxy_protocol: networks(by_header),
        tls: if is_plain { TlsEnds::AtProxies } else { TlsEnds::Here },
    }
}

fn networks(of: &[Network]) -> Proxies {
    Proxies::new(of.iter().map(|network| network.0))
}
