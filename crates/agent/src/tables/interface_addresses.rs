//! `interface_addresses`: the addresses of each network interface.

use std::net::{IpAddr, Ipv6Addr};

use crate::table::{Column, Row, Rows, Scan, Table, Value};

use super::netlink::{self, Address};

/// The table.
pub(super) struct InterfaceAddresses;

const COLUMNS: &[Column] = &[
    Column::text("interface"),
    Column::text("address"),
    Column::text("mask"),
    Column::text("broadcast"),
    Column::text("point_to_point"),
    Column::text("type"),
    // Windows.
    Column::text("friendly_name").hidden(),
];

impl Table for InterfaceAddresses {
    fn name(&self) -> &'static str {
        "interface_addresses"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, scan: &Scan) -> Rows {
        match netlink::addresses() {
            Ok(addresses) => Box::new(addresses.into_iter().map(row)),
            Err(error) => {
                scan.warnings.add(format!("interface_addresses: {error}"));
                Box::new(std::iter::empty())
            }
        }
    }
}

fn row(address: Address) -> Row {
    let text = |address: Option<IpAddr>| Value::from(address.map(|a| a.to_string()));
    // The kernel names the peer where ours is expected, on links between two.
    let peer = address.local.is_some() && address.local != address.address;
    let own = address.local.or(address.address);
    vec![
        address.interface.into(),
        text(own),
        own.map(|own| mask(own, address.prefix_length).to_string()).into(),
        text(address.broadcast),
        text(address.address.filter(|_| peer)),
        "unknown".into(),
    ]
}

fn mask(of: IpAddr, prefix_length: u8) -> IpAddr {
    let length = u32::from(prefix_length);
    match of {
        IpAddr::V4(_) => {
            let bits = u32::MAX.checked_shl(32u32.saturating_sub(length)).unwrap_or(0);
            std::net::Ipv4Addr::from(bits).into()
        }
        IpAddr::V6(_) => {
            let bits = u128::MAX.checked_shl(128u32.saturating_sub(length)).unwrap_or(0);
            Ipv6Addr::from(bits).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_both_families() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let v6: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(mask(v4, 20).to_string(), "255.255.240.0");
        assert_eq!(mask(v4, 0).to_string(), "0.0.0.0");
        assert_eq!(mask(v6, 64).to_string(), "ffff:ffff:ffff:ffff::");
    }
}
