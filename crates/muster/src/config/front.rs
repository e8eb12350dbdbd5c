//! What stands in front of the listeners, and checks on it.

use super::model::{Config, ListenerName, Listeners};
use super::network::Network;

impl Listeners {
    /// Who begins connections to this listener with a PROXY header.
    pub fn balancers(&self, of: ListenerName) -> &[Network] {
        if self.proxy_protocol_on.contains(&of) { &self.proxy_protocol } else { &[] }
    }
}

/// What is wrong with it.
pub fn faults(config: &Config) -> Vec<String> {
    let listeners = &config.listeners;
    let mut faults = Vec::new();
    let named = [
        ("listeners.trusted_proxies", &listeners.trusted_proxies, ListenerName::Operators),
        ("agents.trusted_proxies", &config.agents.trusted_proxies, ListenerName::Agents),
    ];
    for (key, trusted, name) in named {
        if !listeners.plain.contains(&name) {
            continue;
        }
        if trusted.is_empty() && listeners.balancers(name).is_empty() {
            faults.push(format!(
                "listeners.plain: nobody may speak plainly to the {} listener, because no balancer is \
                 named; put its addresses into {key} (or into listeners.proxy_protocol), or take \
                 {:?} out of listeners.plain",
                of(name),
                word(name),
            ));
        }
        faults.extend(trusted.iter().filter(|network| is_everybody(network)).map(|network| {
            format!(
                "{key}: {network} is everybody, who could then speak plainly and claim any address; \
                 write the balancer's own addresses"
            )
        }));
    }
    let everybody = listeners.proxy_protocol.iter().filter(|network| is_everybody(network));
    faults.extend(everybody.map(|network| {
        format!(
            "listeners.proxy_protocol: {network} is everybody, who could then claim any address; write \
             the balancer's own addresses"
        )
    }));
    faults
}

fn is_everybody(network: &Network) -> bool {
    network.0.prefix_len() == 0
}

fn of(name: ListenerName) -> &'static str {
    match name {
        ListenerName::Operators => "operators'",
        ListenerName::Agents => "agents'",
    }
}

fn word(name: ListenerName) -> &'static str {
    match name {
        ListenerName::Operators => "operators",
        ListenerName::Agents => "agents",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_yaml(yaml: &str) -> String {
        faults(&serde_norway::from_str(yaml).unwrap()).join("\n")
    }

    #[test]
    fn plain_needs_a_balancer_that_is_named() {
        insta::assert_snapshot!(of_yaml("listeners: {plain: [operators, agents]}"));
        assert_eq!(of_yaml("listeners: {plain: [agents], proxy_protocol: [10.0.0.1]}"), "");
        let named = "listeners: {plain: [operators], trusted_proxies: [10.0.0.0/24]}";
        assert_eq!(of_yaml(named), "");
        assert!(of_yaml("listeners: {proxy_protocol: ['0.0.0.0/0']}").contains("everybody"));
        let all = "{listeners: {plain: [agents]}, agents: {trusted_proxies: ['::/0']}}";
        assert!(of_yaml(all).contains("everybody"));
    }
}
