//! Which addresses rows may be sent to.
//!
//! Judged is the address that is connected to, after the name was resolved, so a name that leads
//! elsewhere the second time gains nothing. Never: unspecified, multicast, broadcast and link-local
//! addresses, where clouds keep their metadata services, and what is reserved for documentation and
//! protocols. Only with `allow_private`: loopback, private networks, the shared space of carriers, and
//! the networks for benchmarks. An IPv4 address inside an IPv6 one counts as
//! what it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

/// What an address is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Private,
    Never,
}

fn v4(ip: Ipv4Addr) -> Kind {
    let [a, b, c, _] = ip.octets();
    // For documentation, for the protocols themselves, and the relays of 6to4: nobody's machine.
    let nobody = ip.is_documentation() || matches!((a, b, c), (192, 0, 0) | (192, 88, 99));
    if ip.is_multicast() || ip.is_broadcast() || ip.is_link_local() || a == 0 || a >= 240 || nobody
    {
        Kind::Never
    } else if ip.is_loopback()
        || ip.is_private()
        || (a == 100 && (64..128).contains(&b))
        // For benchmarks, and by habit for networks behind a tunnel.
        || (a == 198 && matches!(b, 18 | 19))
    {
        Kind::Private
    } else {
        Kind::Public
    }
}

fn v6(ip: Ipv6Addr) -> Kind {
    if ip.is_loopback() {
        return Kind::Private;
    }
    if let Some(inner) = embedded(ip) {
        return v4(inner);
    }
    let [first, second, ..] = ip.segments();
    // fd00:ec2::/32 holds a metadata service.
    if ip.is_unspecified()
        || ip.is_multicast()
        || first & 0xffc0 == 0xfe80
        || (first, second) == (0xfd00, 0xec2)
        // Documentation, discard, and the tunnels and identifiers under 2001::/23.
        || (first, second) == (0x2001, 0xdb8)
        || (first == 0x3fff && second < 0x1000)
        || ip.segments()[..4] == [0x100, 0, 0, 0]
        || (first == 0x2001 && second < 0x200)
    {
        Kind::Never
    } else if first & 0xfe00 == 0xfc00
        || first & 0xffc0 == 0xfec0
        // A network's own NAT64 leads to whatever that network chose.
        || ip.segments()[..3] == [0x64, 0xff9b, 1]
    {
        Kind::Private
    } else {
        Kind::Public
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, NAT64 or 6to4.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let tail = |hi: u16, lo: u16| Ipv4Addr::from((u32::from(hi) << 16) | u32::from(lo));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, hi, lo] => Some(tail(hi, lo)),
        [0, 0, 0, 0, 0, 0, hi, lo] if hi != 0 => Some(tail(hi, lo)),
        [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => Some(tail(hi, lo)),
        [0x2002, hi, lo, ..] => Some(tail(hi, lo)),
        _ => None,
    }
}

/// Whether rows may be sent there.
///
/// # Errors
/// Why not, for people.
pub(crate) fn check(ip: IpAddr, allow_private: bool) -> Result<(), String> {
    let kind = match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip),
    };
    match kind {
        Kind::Public => Ok(()),
        Kind::Private if allow_private => Ok(()),
        Kind::Private => Err(format!(
            "{ip} is a private address; a sink that may send there says so (allow_private)"
        )),
        Kind::Never => Err(format!("{ip} is no address that rows are ever sent to")),
    }
}

/// The same for the host of a URL, where it is an address and no name.
///
/// # Errors
/// As [`check`].
pub(crate) fn literal(url: &Url, allow_private: bool) -> Result<(), String> {
    match url.host() {
        Some(Host::Ipv4(ip)) => check(ip.into(), allow_private),
        Some(Host::Ipv6(ip)) => check(ip.into(), allow_private),
        _ => Ok(()),
    }
}

/// The addresses of a name that rows may be sent to.
///
/// # Errors
/// When it has none.
pub(crate) async fn resolve(
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|error| format!("{host} cannot be resolved: {error}"))?;
    let mut refused = format!("{host} has no address");
    let mut good = Vec::new();
    for address in found {
        match check(address.ip(), allow_private) {
            Ok(()) => good.push(address),
            Err(why) => refused = format!("{host}: {why}"),
        }
    }
    if good.is_empty() { Err(refused) } else { Ok(good) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_judged_by_where_they_lead() {
        for (ip, kind) in [
            ("93.184.215.14", Kind::Public),
            ("2606:2800:21f:cb07::1", Kind::Public),
            ("10.1.2.3", Kind::Private),
            ("172.31.0.1", Kind::Private),
            ("192.168.1.1", Kind::Private),
            ("100.100.100.200", Kind::Private),
            ("127.0.0.1", Kind::Private),
            ("::1", Kind::Private),
            ("fd12::1", Kind::Private),
            ("::ffff:10.0.0.1", Kind::Private),
            ("64:ff9b::a00:1", Kind::Private),
            ("2002:7f00:1::", Kind::Private),
            ("198.18.0.1", Kind::Private),
            ("198.19.255.255", Kind::Private),
            ("198.20.0.1", Kind::Public),
            ("64:ff9b:1::a00:1", Kind::Private),
            ("192.0.0.1", Kind::Never),
            ("192.0.2.1", Kind::Never),
            ("198.51.100.1", Kind::Never),
            ("203.0.113.1", Kind::Never),
            ("192.88.99.1", Kind::Never),
            ("2001:db8::1", Kind::Never),
            ("2001::1", Kind::Never),
            ("100::1", Kind::Never),
            ("169.254.169.254", Kind::Never),
            ("::ffff:169.254.169.254", Kind::Never),
            ("64:ff9b::a9fe:a9fe", Kind::Never),
            ("2002:a9fe:a9fe::", Kind::Never),
            ("fd00:ec2::254", Kind::Never),
            ("fe80::1", Kind::Never),
            ("0.0.0.0", Kind::Never),
            ("0.1.2.3", Kind::Never),
            ("::", Kind::Never),
            ("224.0.0.1", Kind::Never),
            ("255.255.255.255", Kind::Never),
            ("ff02::1", Kind::Never),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(check(ip, false).is_ok(), kind == Kind::Public, "{ip}");
            assert_eq!(check(ip, true).is_ok(), kind != Kind::Never, "{ip}");
        }
    }
}
