//! Where an instance is found: real addresses, never "any".

use std::net::{IpAddr, SocketAddr};

use muster_cluster::{Listeners as Told, Role, Roles};

use super::listeners::{Listeners, address};
use super::names::is_link_local;

/// Addresses with ports of the listeners that `roles` serve.
pub fn told(
    listeners: &Listeners,
    roles: Roles,
    advertise: &[String],
    interfaces: &[IpAddr],
) -> Told {
    let of = |bound: SocketAddr| reachable(bound, advertise, interfaces);
    let serving = |role, listener| match roles.has(role) {
        true => of(address(listener)),
        false => Vec::new(),
    };
    Told {
        operators: serving(Role::Api, &listeners.operators),
        agents: serving(Role::Frontend, &listeners.agents),
        metrics: of(address(&listeners.metrics)),
    }
}

/// What was asked for; else the address that is bound, or all of the interfaces when it is "any". Loopback
/// counts only where there is nothing else.
fn reachable(bound: SocketAddr, advertise: &[String], interfaces: &[IpAddr]) -> Vec<String> {
    let port = bound.port();
    if bound.ip().is_loopback() {
        return vec![bound.to_string()];
    }
    if !advertise.is_empty() {
        return advertise.iter().map(|host| with_port(host, port)).collect();
    }
    if !bound.ip().is_unspecified() {
        return vec![bound.to_string()];
    }
    // An IPv4 listener is not found under IPv6.
    let usable = |at: &&IpAddr| !is_link_local(**at) && (bound.is_ipv6() || at.is_ipv4());
    let mut found: Vec<IpAddr> = interfaces.iter().filter(usable).copied().collect();
    if found.iter().any(|at| !at.is_loopback()) {
        found.retain(|at| !at.is_loopback());
    }
    found.sort_by_key(|at| (at.is_ipv6(), *at));
    found.dedup();
    found.into_iter().map(|at| SocketAddr::new(at, port).to_string()).collect()
}

fn with_port(host: &str, port: u16) -> String {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_becomes_the_addresses_of_the_interfaces() {
        let all = ["127.0.0.1", "::1", "fe80::1", "2001:db8::7", "192.0.2.7"];
        let all = all.map(|at| at.parse().unwrap());
        let told = |bound: &str, advertise: &[&str], interfaces: &[IpAddr]| {
            let advertise: Vec<_> = advertise.iter().map(|host| host.to_string()).collect();
            reachable(bound.parse().unwrap(), &advertise, interfaces)
        };
        assert_eq!(told("[::]:8453", &[], &all), ["192.0.2.7:8453", "[2001:db8::7]:8453"]);
        assert_eq!(told("0.0.0.0:8453", &[], &all), ["192.0.2.7:8453"]);
        assert_eq!(told("0.0.0.0:8453", &[], &all[..2]), ["127.0.0.1:8453"]);
        assert_eq!(told("192.0.2.9:1", &[], &all), ["192.0.2.9:1"]);
        assert_eq!(
            told("[::]:1", &["a.example", "2001:db8::9"], &all),
            ["a.example:1", "[2001:db8::9]:1"]
        );
        assert_eq!(told("127.0.0.1:9443", &["a.example"], &all), ["127.0.0.1:9443"]);
    }
}
