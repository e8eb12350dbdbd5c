//! Trusted proxies, and who is behind them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// The networks whose `X-Forwarded-For` is believed; cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxies(Arc<[IpNet]>);

impl Default for Proxies {
    fn default() -> Self {
        Self::new([])
    }
}

impl Proxies {
    /// These networks.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether somebody at this address is one of them.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether connections from here are exempt from bounds per address: those of the machine itself,
    /// and those that carry many agents.
    #[must_use]
    pub fn exempts(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || self.trusts(address)
    }

    /// The client's address, by the lines of `X-Forwarded-For`, the newest first: of a chain of
    /// proxies the last that is not trusted, which wrote nothing of it. A header from anybody else does
    /// not count, and neither does what is no address, with all that stands before it.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        newest_first: impl IntoIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in newest_first.into_iter().flat_map(|line| line.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = parse(hop.trim()) else { break };
            client = address;
        }
        client
    }
}

/// An address, also with a port or in brackets, as some proxies write it.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').split(']').next().unwrap_or(hop);
    let parsed = bare.parse::<IpAddr>().ok();
    let parsed = parsed.or_else(|| Some(hop.parse::<std::net::SocketAddr>().ok()?.ip()));
    parsed.map(|address| address.to_canonical())
}

/// What bounds per address count by: an IPv6 host has a whole /64 to choose from.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            std::net::Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_a_trusted_proxy_wrote_counts() {
        let proxies = Proxies::new(["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let client = |peer, chain| proxies.client(ip(peer), chain).to_string();
        assert_eq!(client("192.0.2.1", Some("198.51.100.7")), "192.0.2.1", "no proxy of ours");
        assert_eq!(client("10.0.0.1", None), "10.0.0.1");
        assert_eq!(client("10.0.0.1", Some("198.51.100.7")), "198.51.100.7");
        assert_eq!(client("10.0.0.1", Some("1.2.3.4, 198.51.100.7, 10.9.9.9")), "198.51.100.7");
        assert_eq!(
            client("10.0.0.1", Some("10.3.3.3")),
            "10.3.3.3",
            "an agent in the same network"
        );
        assert_eq!(client("10.0.0.1", Some("unknown, 10.3.3.3")), "10.3.3.3");
        assert_eq!(client("10.0.0.1", Some("garbage")), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", Some("198.51.100.7:4711")), "198.51.100.7");
        assert_eq!(client("fd00::1", Some("[2001:db8::7]:99")), "2001:db8::7");
        let lines = |peer, lines: &[&'static str]| {
            proxies.client(ip(peer), lines.iter().copied()).to_string()
        };
        assert_eq!(lines("10.0.0.1", &["10.2.2.2", "198.51.100.7", "1.2.3.4"]), "198.51.100.7");
        assert_eq!(lines("10.0.0.1", &["10.2.2.2", "", "1.2.3.4"]), "10.2.2.2");
        assert_eq!(lines("192.0.2.1", &["10.2.2.2", "1.2.3.4"]), "192.0.2.1");
        assert!(proxies.exempts(ip("127.0.0.9")) && proxies.exempts(ip("::1")));
        assert!(!proxies.exempts(ip("192.0.2.1")));
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        assert_eq!(source_of(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(source_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
