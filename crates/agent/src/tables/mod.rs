//! The tables of a Linux endpoint: names, columns, order and types as osquery has them.

mod file;
mod hash;
mod interface_addresses;
mod listening_ports;
mod logged_in_users;
mod netlink;
mod os_version;
mod process_open_sockets;
mod processes;
mod procfs;
mod sockets;
mod system_info;
mod users;

use std::sync::Arc;

pub(crate) use os_version::OsRelease;
pub(crate) use system_info::{hostname, machine_uuid};

use crate::table::SharedTable;

/// All tables this agent serves, by name.
#[must_use]
pub fn all() -> Vec<SharedTable> {
    vec![
        Arc::new(file::File),
        Arc::new(hash::Hash),
        Arc::new(interface_addresses::InterfaceAddresses),
        Arc::new(listening_ports::ListeningPorts),
        Arc::new(logged_in_users::LoggedInUsers),
        Arc::new(os_version::OsVersion),
        Arc::new(process_open_sockets::ProcessOpenSockets),
        Arc::new(processes::Processes),
        Arc::new(system_info::SystemInfo),
        Arc::new(users::Users),
    ]
}

/// Their names.
#[must_use]
pub fn names() -> Vec<&'static str> {
    all().iter().map(|table| table.name()).collect()
}

/// The addresses of this machine's interfaces now; none when the kernel does not say.
#[must_use]
pub fn machine_addresses() -> Vec<std::net::IpAddr> {
    let addresses = netlink::addresses().unwrap_or_default();
    addresses.into_iter().filter_map(|a| a.local.or(a.address)).collect()
}
