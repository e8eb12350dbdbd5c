//! The addresses of this network namespace, asked of the kernel (rtnetlink(7), RTM_GETADDR).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
const HEADER: usize = 16;
const IFADDRMSG: usize = 8;

/// An address as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Address {
    pub(super) interface: String,
    pub(super) prefix_length: u8,
    pub(super) address: Option<IpAddr>,
    pub(super) local: Option<IpAddr>,
    pub(super) broadcast: Option<IpAddr>,
}

/// All addresses of all interfaces.
pub(super) fn addresses() -> io::Result<Vec<Address>> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = Vec::with_capacity(HEADER + IFADDRMSG);
    request.extend(((HEADER + IFADDRMSG) as u32).to_ne_bytes());
    request.extend(RTM_GETADDR.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8 + IFADDRMSG]);
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &kernel)?;

    let mut found = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (length, _) = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if length == 0 || !parse(buffer.get(..length).unwrap_or_default(), &mut found) {
            return Ok(found);
        }
    }
}

/// Reads one datagram of messages; whether more are to come.
fn parse(mut bytes: &[u8], found: &mut Vec<Address>) -> bool {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        if kind == NLMSG_DONE || kind == NLMSG_ERROR || length < HEADER {
            return false;
        }
        let Some(message) = bytes.get(HEADER..length) else { return false };
        if kind == RTM_NEWADDR {
            found.extend(address(message));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn address(message: &[u8]) -> Option<Address> {
    let mut address = Address { prefix_length: *message.get(1)?, ..Address::default() };
    let index = u32_at(message, 4)?;
    let mut rest = message.get(IFADDRMSG..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let Some(value) = rest.get(4..usize::from(length)) else { break };
        match kind {
            1 => address.address = ip(value),
            2 => address.local = ip(value),
            3 => {
                let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                address.interface = String::from_utf8_lossy(text).into_owned();
            }
            4 => address.broadcast = ip(value),
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    if address.interface.is_empty() {
        // IPv6 addresses carry no label.
        address.interface = interface(index).unwrap_or_else(|| index.to_string());
    }
    Some(address)
}

fn interface(index: u32) -> Option<String> {
    fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path().join("ifindex")).ok()?;
        (text.trim().parse() == Ok(index)).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
