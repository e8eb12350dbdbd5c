//! `listening_ports`: sockets that wait for somebody: bound ones without a peer, named unix ones.

use crate::table::{Column, Rows, Scan, Table};

use super::sockets::{self, Socket, UNIX};

/// The table.
pub(super) struct ListeningPorts;

const COLUMNS: &[Column] = &[
    Column::int("pid").index(),
    Column::int("port"),
    Column::int("protocol"),
    Column::int("family"),
    Column::text("address"),
    Column::big("fd"),
    Column::big("socket"),
    Column::text("path"),
    Column::text("net_namespace"),
];

impl Table for ListeningPorts {
    fn name(&self) -> &'static str {
        "listening_ports"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, scan: &Scan) -> Rows {
        let sockets = sockets::all(scan.equals_int(0)).into_iter().filter(waits);
        Box::new(sockets.map(|socket| {
            vec![
                socket.pid.into(),
                socket.local_port.into(),
                socket.protocol.into(),
                socket.family.into(),
                socket.local_address.into(),
                socket.fd.into(),
                socket.inode.into(),
                socket.path.into(),
                socket.net_namespace.into(),
            ]
        }))
    }
}

fn waits(socket: &Socket) -> bool {
    if socket.family == UNIX { !socket.path.is_empty() } else { socket.remote_port == 0 }
}
