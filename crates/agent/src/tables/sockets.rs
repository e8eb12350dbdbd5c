//! Sockets: `/proc/PID/net/*` of every network namespace, joined with the descriptors that hold them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::procfs::{link, pids, read};

/// Address family of unix sockets.
pub(super) const UNIX: i64 = 1;
const INET: i64 = 2;
const INET6: i64 = 10;

/// A socket, as held by one descriptor of one process; -1 for both when nobody was seen to hold it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Socket {
    pub(super) pid: i64,
    pub(super) fd: i64,
    pub(super) inode: u64,
    pub(super) family: i64,
    pub(super) protocol: i64,
    pub(super) local_address: String,
    pub(super) remote_address: String,
    pub(super) local_port: i64,
    pub(super) remote_port: i64,
    pub(super) path: String,
    pub(super) state: String,
    pub(super) net_namespace: String,
}

/// All sockets, or those of one process.
pub(super) fn all(only: Option<i64>) -> Vec<Socket> {
    // One process of each namespace, through whose eyes its sockets are read.
    let mut namespaces: BTreeMap<String, i64> = BTreeMap::new();
    let mut holders: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
    for pid in pids(only) {
        if let Some(namespace) = link(format!("/proc/{pid}/ns/net")) {
            namespaces.entry(inner(&namespace).to_owned()).or_insert(pid);
        }
        for (fd, inode) in descriptors(pid) {
            holders.entry(inode).or_default().push((pid, fd));
        }
    }
    let mut sockets = Vec::new();
    for (namespace, pid) in namespaces {
        for mut socket in of_namespace(pid) {
            socket.net_namespace.clone_from(&namespace);
            match holders.get(&socket.inode) {
                Some(holders) => sockets.extend(holders.iter().map(|&(pid, fd)| Socket {
                    pid,
                    fd,
                    ..socket.clone()
                })),
                None if only.is_none() => sockets.push(socket),
                None => {}
            }
        }
    }
    sockets
}

/// `net:[4026531840]` without its frame.
fn inner(link: &str) -> &str {
    link.split_once('[').map_or(link, |(_, rest)| rest.trim_end_matches(']'))
}

/// The descriptors of a process that are sockets; none when they may not be read.
fn descriptors(pid: i64) -> Vec<(i64, u64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let target = link(entry.path())?;
            let inode = inner(target.strip_prefix("socket:")?).parse().ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        })
        .collect()
}

fn of_namespace(pid: i64) -> Vec<Socket> {
    let files = [
        ("tcp", INET, 6),
        ("tcp6", INET6, 6),
        ("udp", INET, 17),
        ("udp6", INET6, 17),
        ("udplite", INET, 136),
        ("udplite6", INET6, 136),
        ("raw", INET, 0),
        ("raw6", INET6, 0),
    ];
    let mut sockets = Vec::new();
    for (name, family, protocol) in files {
        let text = read(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| inet(line, family, protocol)));
    }
    let text = read(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    sockets.extend(text.lines().skip(1).filter_map(unix));
    sockets
}

/// A line of `/proc/net/tcp` and its like (proc_net(5)).
fn inet(line: &str, family: i64, protocol: i64) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local_address, local_port) = endpoint(words.get(1)?)?;
    let (remote_address, remote_port) = endpoint(words.get(2)?)?;
    Some(Socket {
        pid: -1,
        fd: -1,
        inode: words.get(9)?.parse().ok()?,
        family,
        // A raw socket's "port" is its protocol.
        protocol: if protocol == 0 { local_port } else { protocol },
        local_address,
        remote_address,
        local_port: if protocol == 0 { 0 } else { local_port },
        remote_port,
        path: String::new(),
        state: if protocol == 6 { tcp_state(words.get(3)?) } else { "" }.to_owned(),
        net_namespace: String::new(),
    })
}

/// `0100007F:0016`: the address as 32-bit words in host order, and the port.
fn endpoint(text: &str) -> Option<(String, i64)> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some((address.to_string(), i64::from_str_radix(port, 16).ok()?))
}

fn tcp_state(code: &str) -> &'static str {
    const NAMES: [&str; 13] = [
        "UNKNOWN",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSED",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    let code = usize::from_str_radix(code, 16).unwrap_or(0);
    NAMES.get(code).copied().unwrap_or(NAMES[0])
}

/// A line of `/proc/net/unix`: `Num: RefCount Protocol Flags Type St Inode Path`.
fn unix(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let protocol = i64::from_str_radix(words.nth(2)?, 16).ok()?;
    let inode = words.nth(3)?.parse().ok()?;
    // The path is the rest of the line, with its spaces; abstract names begin with `@`.
    let path = line.splitn(8, ' ').last().filter(|_| words.next().is_some());
    Some(Socket {
        pid: -1,
        fd: -1,
        inode,
        family: UNIX,
        protocol,
        local_address: String::new(),
        remote_address: String::new(),
        local_port: 0,
        remote_port: 0,
        path: path.map(|text| rest_after_inode(text, inode)).unwrap_or_default(),
        state: String::new(),
        net_namespace: String::new(),
    })
}

/// The inode is padded, so a fixed split may leave it in front of the path.
fn rest_after_inode(text: &str, inode: u64) -> String {
    let text = text.trim_start();
    let text = text.strip_prefix(&format!("{inode} ")).unwrap_or(text);
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_the_kernels_word_order() {
        assert_eq!(endpoint("0100007F:0016"), Some(("127.0.0.1".to_owned(), 22)));
        let loopback = "00000000000000000000000001000000:1F90";
        assert_eq!(endpoint(loopback), Some(("::1".to_owned(), 8080)));
        assert_eq!(endpoint("01:1"), None);
    }

    #[test]
    fn unix_lines_keep_the_whole_path() {
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 23456 /run/a b/sock";
        let socket = unix(line).unwrap();
        assert_eq!((socket.inode, socket.path.as_str()), (23456, "/run/a b/sock"));
        let padded = "0000000000000000: 00000003 00000000 00000000 0001 03   771 @abstract";
        assert_eq!(unix(padded).unwrap().path, "@abstract");
        let unnamed = "0000000000000000: 00000003 00000000 00000000 0001 03 12345";
        assert_eq!(unix(unnamed).unwrap().path, "");
    }
}
