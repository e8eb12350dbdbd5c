//! Every name and address of this machine, for the server's certificate.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Names and addresses an agent or a person may use for this machine, and those asked for.
pub fn machine_names(extra: &[String], addresses: &[IpAddr]) -> Vec<String> {
    let mut names = BTreeSet::from(["localhost".to_owned(), "127.0.0.1".into(), "::1".into()]);
    names.extend(extra.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()));
    if let Some(host) = host_name() {
        names.insert(host);
    }
    names.extend(addresses.iter().filter(|a| !is_link_local(**a)).map(IpAddr::to_string));
    names.into_iter().collect()
}

/// The addresses this machine has now.
pub fn addresses() -> Vec<IpAddr> {
    muster_agent::tables::machine_addresses()
}

/// The machine's host name, where it is a valid DNS name.
pub fn host_name() -> Option<String> {
    let name = hostname::get().ok()?.into_string().ok()?.to_ascii_lowercase();
    let valid = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    (name.len() <= 253 && name.split('.').all(valid)).then_some(name)
}

/// The address a second machine most likely reaches us at: the first global one, else loopback.
pub fn reachable_address(addresses: &[IpAddr]) -> IpAddr {
    let usable = |a: &&IpAddr| !a.is_loopback() && !is_link_local(**a);
    let v4 = addresses.iter().filter(usable).find(|a| a.is_ipv4());
    v4.or_else(|| addresses.iter().find(usable))
        .copied()
        .unwrap_or_else(|| IpAddr::from([127, 0, 0, 1]))
}

/// Where this machine itself reaches a listener.
pub fn own_url(listener: SocketAddr) -> String {
    let everywhere = listener.ip().is_unspecified() || listener.ip() == Ipv4Addr::LOCALHOST;
    match everywhere {
        true => format!("https://localhost:{}", listener.port()),
        false => format!("https://{listener}"),
    }
}

/// Whether an address means something on its own network segment only.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_and_wanted_name_is_in() {
        let addresses =
            ["127.0.0.1", "192.0.2.7", "fe80::1", "2001:db8::7"].map(|a| a.parse().unwrap());
        let names = machine_names(&["Muster.Example.ORG.".into()], &addresses);
        for name in
            ["localhost", "127.0.0.1", "::1", "192.0.2.7", "2001:db8::7", "muster.example.org"]
        {
            assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|n| n == "fe80::1"));
        assert_eq!(reachable_address(&addresses).to_string(), "192.0.2.7");
    }

    #[test]
    fn a_listener_on_one_address_is_reached_there() {
        for (listener, url) in [
            ("127.0.0.1:8443", "https://localhost:8443"),
            ("0.0.0.0:8443", "https://localhost:8443"),
            ("[::]:8443", "https://localhost:8443"),
            ("[::1]:8443", "https://[::1]:8443"),
            ("192.0.2.7:8443", "https://192.0.2.7:8443"),
        ] {
            assert_eq!(own_url(listener.parse().unwrap()), url);
        }
    }
}
