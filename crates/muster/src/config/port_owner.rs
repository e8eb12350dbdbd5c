//! Which program listens on a port, for a message that helps.

use procfs::process::{FDTarget, all_processes};

/// Name and pid of the program that listens on the TCP port; `None` when it cannot be seen.
pub fn owner_of(port: u16) -> Option<String> {
    let v4 = procfs::net::tcp().unwrap_or_default();
    let v6 = procfs::net::tcp6().unwrap_or_default();
    let listening = |e: &procfs::net::TcpNetEntry| {
        e.local_address.port() == port && e.state == procfs::net::TcpState::Listen
    };
    let inode = v4.iter().chain(&v6).find(|entry| listening(entry))?.inode;
    all_processes().ok()?.flatten().find_map(|process| {
        let holds = process
            .fd()
            .ok()?
            .flatten()
            .any(|fd| matches!(fd.target, FDTarget::Socket(found) if found == inode));
        let stat = holds.then(|| process.stat().ok())??;
        Some(format!("{} (pid {})", stat.comm, stat.pid))
    })
}
