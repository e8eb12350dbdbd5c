//! Functions on network addresses.

use std::net::{IpAddr, Ipv4Addr};

/// An IPv4 address as a number.
pub(super) fn inet_aton(text: &str) -> Option<i64> {
    let address: Ipv4Addr = text.trim().parse().ok()?;
    Some(i64::from(u32::from(address)))
}

/// Whether an address lies in a block like `10.0.0.0/8`; nothing when either is none.
pub(crate) fn in_cidr_block(block: &str, address: &str) -> Option<bool> {
    let (base, length) = block.trim().split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let bits = |text: &str| match text.trim().parse().ok()? {
        IpAddr::V4(address) => Some((u128::from(u32::from(address)), 32)),
        IpAddr::V6(address) => Some((u128::from(address), 128)),
    };
    let ((base, width), (address, other)) = (bits(base)?, bits(address)?);
    if length > width {
        return None;
    }
    let shift = width - length;
    let prefix = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
    Some(width == other && prefix(base) == prefix(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_their_addresses() {
        assert_eq!(in_cidr_block("10.0.0.0/8", "10.9.8.7"), Some(true));
        assert_eq!(in_cidr_block("10.0.0.0/8", "11.0.0.1"), Some(false));
        assert_eq!(in_cidr_block("0.0.0.0/0", "1.2.3.4"), Some(true));
        assert_eq!(in_cidr_block("::/0", "fe80::1"), Some(true));
        assert_eq!(in_cidr_block("::/0", "1.2.3.4"), Some(false));
        assert_eq!(in_cidr_block("10.0.0.0/33", "10.0.0.1"), None);
        assert_eq!(inet_aton("1.2.3.4"), Some(16_909_060));
    }
}
